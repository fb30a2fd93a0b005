"""Runs the study: data, warm starts, scores and cells, each by the entry scripts of the stages, each once.

    python -m benchmarks.efficacy.run [real|embedded] [--budget-minutes N] [--only PATTERN] [--tuning] [--folder FOLDER]

What is finished is never repeated: a cell is finished when its record is in results/DATA/cells. A rerun goes on.
"""

import argparse
import fnmatch
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import Any

import yaml

from benchmarks.efficacy import corpus
from benchmarks.efficacy.kept_scores import is_kept, restore
from benchmarks.efficacy.plan import FOLDER, Call, Cell, Plan, digest, load
from data_common.calls.jobs import Job, call_stage, run_jobs
from data_common.files.atomic import write_text
from data_common.files.manifest import manifest_path


class Study:
    """The jobs of a plan in a folder for data and models, and a folder for records."""

    def __init__(self, plan: Plan, folder: Path, records: Path):
        self.plan, self.folder, self.records = plan, folder, records
        self.data = folder / "data"
        self.hash = json.loads((self.data / "data.json").read_text(encoding="utf-8"))["sha256"]

    def jobs(self, cells: Iterable[Cell]) -> list[Job]:
        """The jobs that some cells ask for, in the order in which they are to be done."""
        jobs: dict[str, Job] = {}
        for cell in cells:
            training, before = self._cell(cell), []
            if not training.done():
                warm = self._warm(f"warm-{cell.block}", cell.block, 1)
                before = [*self._score(cell.arm.source), warm, self._corpus(cell)]
            for job in (*before, training):
                jobs.setdefault(job.name, job)
        return list(jobs.values())

    def scored(self, name: str) -> Path:
        """The pool with a score, and those of the files that it starts from."""
        return self.data / "pool.jsonl" if name == "pool" else self.data / "scored" / f"{name}.jsonl"

    def _score(self, name: str) -> list[Job]:
        if name == "pool":
            return []
        score, output = self.plan.scores[name], self.scored(name)
        facts = self._score_facts(name)
        identity = digest([self.hash, facts])
        annotated = "annotator_model" in score.call and not is_kept(name, identity)
        before = [
            *self._score(score.source),
            *([self._warm("annotator", 0, self.plan.annotator_passes)] if annotated else []),
        ]

        def do() -> None:
            if not restore(self.scored(score.source), output, name, identity):
                cost = self.call(score.call, [self.scored(score.source), output], f"score-{name}")
                write(Path(f"{output}.cost.json"), cost)

        needs = [f"score-{score.source}"] if score.source != "pool" else []
        needs += ["annotator"] if annotated else []
        return [*before, self._kept(f"score-{name}", needs, do, output, facts)]

    def _score_facts(self, name: str) -> list:
        """What a scored file follows from, beside the data."""
        scores = self.plan.made_from(name)
        return [scores, self._warm_keys(0, self.plan.annotator_passes)] if scores else []

    def _kept(self, name: str, needs: Sequence[str], do: Callable[[], None], output: Path, facts: Any) -> Job:
        """A job whose output serves many cells: what follows from other facts (an earlier plan, say) is made again."""
        mark, identity = Path(f"{output}.identity"), digest([self.hash, facts])

        def do_and_mark() -> None:
            do()
            mark.write_text(identity, encoding="utf-8")

        def done() -> bool:
            return manifest_path(output).exists() and mark.exists() and mark.read_text(encoding="utf-8") == identity

        return Job(name, needs, do_and_mark, done)

    def _warm(self, name: str, seed: int, passes: int) -> Job:
        """A model that has seen the data of the warm starts."""
        model = self.folder / "models" / name
        keys = self._warm_keys(seed, passes)

        def do() -> None:
            self.train(self.data / "warm.jsonl", self.data / "model", model, keys, name)

        return self._kept(name, [], do, model, keys)

    def _warm_keys(self, seed: int, passes: int) -> dict:
        tokens = passes * self.plan.sizes.warm * self.plan.sizes.chunk_tokens
        keys = dict(self.plan.training) | dict(self.plan.warm_training) | {"max_tokens": tokens, "seed": seed}
        return keys | {"resume": "never"}  # what is there of another plan is replaced

    def _corpus(self, cell: Cell) -> Job:
        """The rows of a seed, in random order: the same rows for every arm."""
        source, output = cell.arm.source, self._corpus_file(cell)
        needs = [f"score-{source}"] if source != "pool" else []
        name = f"corpus-{source}-{cell.seed}"

        def do() -> None:
            self.prepare(self.plan.corpus, self.scored(source), output, cell, name)

        return self._kept(name, needs, do, output, [self._score_facts(source), self.plan.corpus, cell.seed])

    def _corpus_file(self, cell: Cell) -> Path:
        return self.folder / "corpora" / f"{cell.arm.source}-{cell.seed}.jsonl"

    def _cell(self, cell: Cell) -> Job:
        kind = "tuning" if cell.arm.name.startswith("tuning") else "cells"
        record = self.records / kind / f"{cell.name}.json"
        identity = self.plan.identity(cell, self.hash)

        def do() -> None:
            write(record, self.run_cell(cell) | {"data": self.hash, "identity": identity})

        def done() -> bool:
            if record.exists() and json.loads(record.read_text(encoding="utf-8"))["identity"] != identity:
                sys.exit(f"error: {record} is of another plan or other data: give other --records")
            return record.exists()

        return Job(cell.name, [f"corpus-{cell.arm.source}-{cell.seed}", f"warm-{cell.block}"], do, done)

    def accuracy_jobs(self, cells: Iterable[Cell]) -> list[Job]:
        """Benchmarks for the models of finished cells; those of other machines are not here, and are left out."""
        jobs = []
        for cell in cells:
            folder, record = self.folder / "cells" / cell.name, self.records / "accuracy" / f"{cell.name}.json"

            def do(cell: Cell = cell, folder: Path = folder, record: Path = record) -> None:
                self.call(self.plan.accuracy[self.plan.data], [folder / "model", folder / "tasks.yaml"], cell.name)
                tasks = yaml.safe_load((folder / "tasks.yaml").read_text(encoding="utf-8"))["tasks"]
                kept = {name: {key: task[key] for key in ("value", "stderr", "n")} for name, task in tasks.items()}
                write(record, {"arm": cell.arm.name, "seed": cell.seed, "block": cell.block, "tasks": kept})

            if (folder / "model.manifest.json").exists():
                jobs.append(Job(f"accuracy-{cell.name}", [], do, record.exists))
        return jobs

    def run_cell(self, cell: Cell) -> dict:
        """Organise, train, evaluate; the record of it."""
        folder, begun = self.folder / "cells" / cell.name, time.perf_counter()
        data, costs = folder / "data.jsonl", {}
        costs["organise"] = self.prepare(cell.arm.calls, self._corpus_file(cell), data, cell, cell.name)
        keys = dict(self.plan.training) | dict(cell.arm.training)
        keys |= {"max_tokens": self.plan.sizes.max_tokens, "seed": cell.seed, "heldout_data": "$data/curve.jsonl"}
        per_step = keys["batch_size"] * self.plan.sizes.chunk_tokens
        keys["heldout_steps"] = self.plan.sizes.max_tokens // per_step // 12
        keys["score_field"] = "planted" if cell.arm.source == "pool" else cell.arm.source  # the order made visible
        warm, model = self.folder / "models" / f"warm-{cell.block}", folder / "model"
        costs["train"] = self.train(data, warm, model, keys, cell.name)
        averaged = keys.get("average", "none") != "none"  # then `model` is the mean, and the last weights lie in it
        bits, costs["evaluate"] = self.evaluate(model / "last" if averaged else model, folder, cell.name)
        of_mean = {"mean_bits_per_byte": self.evaluate(model, folder, cell.name)[0]} if averaged else {}
        passes = json.loads((folder / "model.manifest.json").read_text(encoding="utf-8"))["passes"]
        if "data_ordering" in "".join(cell.arm.calls[-1:]) and 0 < passes % 1 < 0.9:
            raise RuntimeError(f"{cell.name}: {passes} passes end within the order")
        log = [json.loads(line) for line in (model / "train_log.jsonl").read_text(encoding="utf-8").split("\n") if line]
        data.unlink()
        return {
            "arm": cell.arm.name,
            "seed": cell.seed,
            "block": cell.block,
            "passes": passes,
            "bits_per_byte": bits,
            **of_mean,
            "curve": [
                [entry["step"] * per_step, round(entry["heldout_loss"], 5)] for entry in log if "heldout_loss" in entry
            ],
            "order": [[entry["tokens"], float(f"{entry['score']:.5g}")] for entry in log if "score" in entry],
            "seconds": round(time.perf_counter() - begun, 1),
            "cost": costs,
        }

    def evaluate(self, model: Path, folder: Path, name: str) -> tuple[dict[str, float], dict[str, float]]:
        """Bits per byte of each held-out text, and what it cost."""
        output = folder / "heldout.yaml"
        heldout = "model_eval perplexity data=$data/heldout max_length=$chunk_tokens"
        cost = self.call(heldout, [model, output], name)
        tasks = yaml.safe_load(output.read_text(encoding="utf-8"))["tasks"]
        shutil.rmtree(folder / "heldout.yaml.work", ignore_errors=True)
        return {text: task["value"] for text, task in tasks.items()}, cost

    def prepare(self, calls: Sequence[Call], source: Path, output: Path, cell: Cell, name: str) -> dict[str, float]:
        """The calls one after the other, from `source` to `output`; a copy where there are none."""
        output.parent.mkdir(parents=True, exist_ok=True)
        between = [output.with_name(f"{output.stem}.{number}.jsonl") for number in range(1, len(calls))]
        steps = [source, *between, output]
        costs = [
            self.call(call, [before, after], name, cell.seed)
            for call, before, after in zip(calls, steps, steps[1:], strict=False)
        ]
        if not calls:
            shutil.copyfile(source, output)
        for path in between:
            path.unlink()
        return total(costs)

    def train(self, data: Path, model: Path, output: Path, keys: dict, name: str) -> dict[str, float]:
        """A call of model_train; sequences are as long as chunks."""
        keys = {"max_length": self.plan.sizes.chunk_tokens} | keys
        words = " ".join(f"{key}={value}" for key, value in keys.items())
        return self.call(f"model_train pretrain {words}", [data, model, output], name)

    def call(self, call: Call, paths: Sequence[Path], name: str, seed: int = 0) -> dict[str, float]:
        """Run a stage; what it printed goes to logs/NAME.log. -> what it cost. Raises: RuntimeError where it fails."""
        names = {**os.environ, **asdict(self.plan.sizes), "second_target": self.plan.second_target, "seed": seed}
        names |= {"data": self.data, "models": self.folder / "models", "folder": self.folder}
        stage, *words = (Template(word).substitute(names) for word in shlex.split(call))
        log = self.folder / "logs" / f"{name}.log"
        return call_stage(stage, [*map(str, paths), *words], log, {"OMP_NUM_THREADS": "1"})


def write(record: Path, content: dict) -> None:
    """A record, one line a key, whole or not at all."""
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
    write_text(record, "{\n" + lines + "\n}\n")


def total(costs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Seconds add up, memory does not."""
    seconds = {name: round(sum(cost[name] for cost in costs), 1) for name in ("wall", "cpu")}
    return seconds | {"peak_mib": max((cost["peak_mib"] for cost in costs), default=0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", nargs="?", choices=["real", "embedded"], default="embedded")
    parser.add_argument("--budget-minutes", type=float, default=float("inf"), help="start nothing after so long")
    parser.add_argument("--only", default="*", help="cells whose name (ARM-SEED) matches this pattern")
    parser.add_argument("--tuning", action="store_true", help="the cells of the tuning instead of the plan's")
    parser.add_argument("--cross", action="store_true", help="orders x schedules of the learning rate (results/cross)")
    parser.add_argument("--accuracy", action="store_true", help="benchmarks for the models of finished cells")
    parser.add_argument("--prepare", action="store_true", help="do all that the cells need, and none of them")
    parser.add_argument("--workers", type=int, default=2, help="trainings side by side, one thread each")
    parser.add_argument("--folder", type=Path, help="for data, models and logs (results/efficacy-DATA)")
    parser.add_argument("--records", type=Path, help="for what is found (benchmarks/efficacy/results/DATA)")
    given = parser.parse_args()
    plan, folder = load(given.data), given.folder or Path("results") / f"efficacy-{given.data}"
    if not (folder / "data" / "data.json").exists():
        corpus.build(corpus.source(given.data, folder), folder / "data", plan.sizes)
    records = FOLDER / "results" / ("cross" if given.cross else given.data)
    study = Study(plan, folder.resolve(), given.records or records)
    kinds = {"tuning": plan.tuning_cells, "accuracy": plan.accuracy_cells, "cross": plan.cross_cells}
    cells = next((make for kind, make in kinds.items() if getattr(given, kind)), plan.cells)()
    cells = [cell for cell in cells if fnmatch.fnmatch(cell.name, given.only)]
    if not cells:
        parser.error(f"no cell is called {given.only}")
    jobs = study.accuracy_jobs(cells) if given.accuracy else study.jobs(cells)
    if given.accuracy and len(jobs) < len(cells):
        print(f"the models of {len(cells) - len(jobs)} of {len(cells)} cells are not in {folder}: left out")
    if given.prepare:
        jobs = [job for job in jobs if job.name not in {cell.name for cell in cells}]
    if failed := run_jobs(jobs, given.workers, given.budget_minutes):
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
