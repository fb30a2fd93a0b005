"""Results of a small call of every method and configuration, as its version last raised them: tests/golden.json.

python -m tests.golden      records what is new, and what a raised version allows to change
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY, Stage, keys_for, load_method, method_names, versions_of
from data_ordering.entry import STAGE as ORDERING
from data_scoring.entry import STAGE as SCORING
from data_selection.entry import STAGE as SELECTION
from model_eval.entry import STAGE as EVALUATION
from model_train.entry import STAGE as TRAINING
from tests.models import save_model

FILE = Path(__file__).parent / "golden.json"
STAGES = (SCORING, SELECTION, ORDERING, TRAINING, EVALUATION)
INFLUENCE = ["annotator_model=model", "target_data=target.jsonl", "steps=4", "interval=2", "batch_size=4"]
INFLUENCE += ["max_length=32", "scorer_model=null", "device=cpu"]
LIKELIHOOD = ["model=model", "max_length=64", "device=cpu"]
TRAIN = [
    "max_length=32",
    "max_tokens=800",
    "batch_size=4",
    "gradient_accumulation_steps=1",
    "warmup_steps=2",
    "logging_steps=1",
]
HELDOUT = ["data=target.jsonl", "max_length=64", "device=cpu"]
KEYS = {  # what a method's own YAML does not say, or says for larger data
    "combine": ["fields=[score,other]", "lower_is_better=[]"],
    "kenlm": ["train_data=target.jsonl", "vocab_size=64", "order=3", "workers=1"],
    "difficulty": ["metric=tokens_per_word", "tokenizer=model"],
    "dsir": ["target_data=target.jsonl", "workers=1"],
    "quality-classifier": ["positive_data=target.jsonl", "workers=1"],
    "lqs": INFLUENCE,
    "color-filter": [*LIKELIHOOD, "prior_model=prior"],
    "min-k": LIKELIHOOD,
    "pds": INFLUENCE,
    "perplexity": LIKELIHOOD,
    "rds-plus": ["target_data=target.jsonl", "embedder=model", "embedding_max_length=64", "device=cpu"],
    "quality-copies": ["score_fields=[score,other]", "group_field=kind", "threshold=0.5", "steepness=5"],
    "round-robin": ["score_fields=[score,other]"],
    "spt": ["group_field=kind", "domain=[two]", "start=0.5"],
    "domain-upsampling": ["group_field=kind", "final={two: 1}", "tokens=900"],
    "rehydrate": ["tail=0"],
    "s2l": ["score_fields=[score,other]"],
    "threshold": ["threshold=0.2"],
    "token-budget": ["tokens=150"],
    "top-k": ["k=9"],
    "pretrain": [*TRAIN, "device=cpu"],
    "posttrain": [*TRAIN, "from_scratch=true", "device=cpu"],
    "lm_evaluation_harness": ["tasks=task", "device=cpu"],
}
CONFIGS = {  # YAML beside those that carry the name of a method or are its default -> the method
    "data_scoring/lqs-tiny": "lqs",
    "model_train/train-tiny": "pretrain",
    "model_train/debug": "pretrain",
    "model_eval/all": "lm_evaluation_harness",
    "model_eval/code": "lm_evaluation_harness",
    "model_eval/general": "lm_evaluation_harness",
    "model_eval/math": "lm_evaluation_harness",
    "model_eval/tiny": "lm_evaluation_harness",
}
KINDS = ("one", "one", "two", "one", "two")


class Call(NamedTuple):
    """A small call: of a method with its default configuration, or with another one."""

    stage: Stage
    method: str
    config: str | None = None

    @property
    def key(self) -> str:
        return f"{self.stage.name}/{self.config or self.method}"

    @property
    def out(self) -> str:
        return self.key.replace("/", "-")


def calls() -> list[Call]:
    """All methods that are found, and all configurations."""
    stages = {stage.name: stage for stage in STAGES}
    found = [Call(stage, name) for stage in STAGES for name in method_names(stage.name)]
    return found + [Call(stages[key.split("/")[0]], name, key.split("/")[1]) for key, name in CONFIGS.items()]


def version(stage: Stage, name: str) -> int:
    """The one that its method.py declares."""
    method, _ = load_method(stage, name)
    return max(versions_of(name, method).get(name, {1: ""}))


def write_inputs(folder: Path) -> None:
    """Rows, a target, a model and a task, all by fixed numbers."""
    generator = np.random.default_rng(7)
    words = ["the", "a", "of", "row", "word", "text", "and", "some", "more", "is", "was", "with"]
    rows = []
    for number in range(48):
        text = " ".join(generator.choice(words, int(generator.integers(3, 12))))
        score, other = (round(float(value), 3) for value in generator.normal(size=2))
        rows.append({"text": text, "score": score, "other": other, "prompt": f"say {number % 5}", "response": text})
        rows[-1] |= {"kind": KINDS[number % len(KINDS)], "duplicate_count": number % 6 + 1}
    for name, part in {"in": rows, "target": rows[::4]}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    save_model(folder / "model")
    save_model(folder / "prior", seed=1)
    (folder / "task").mkdir()
    items = [{"q": row["text"][:9], "options": ["one", "another"], "answer": n % 2} for n, row in enumerate(rows[:12])]
    (folder / "task/pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in items))
    (folder / "task/pairs.yaml").write_text(
        "task: pairs\ndataset_path: json\ndataset_kwargs: {data_files: {test: pairs.jsonl}}\ntest_split: test\n"
        "output_type: multiple_choice\ndoc_to_text: q\ndoc_to_choice: options\ndoc_to_target: answer\n"
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )


def keys_of_stage(stage: Stage, name: str) -> list[str]:
    """What a stage needs to know of these rows: the field to write, which scores are better."""
    if stage is not SELECTION:
        return ["score_field=new"] if stage is SCORING else []
    known = keys_for(stage, load_method(stage, name)[0])[0]
    return [f"{key}={value}" for key, value in (("direction", "higher"), ("lower_is_better", "[]")) if key in known]


def words(call: Call) -> list[str]:
    """What follows `entry.sh`, in a working folder that has the inputs."""
    stage, name = call.stage, call.method
    paths = {TRAINING.name: ["in.jsonl", "model", call.out], EVALUATION.name: ["model", f"{call.out}.yaml"]}
    keys = HELDOUT if stage is EVALUATION and name == "perplexity" else KEYS.get(name, [])
    config = [str(REPOSITORY / stage.name / "config" / f"{call.config}.yaml")] if call.config else []
    return [
        *paths.get(stage.name, ["in.jsonl", f"{call.out}.jsonl"]),
        name,
        *config,
        *keys_of_stage(stage, name),
        *keys,
    ]


def result(call: Call) -> list[float]:
    """Row numbers, scores, losses, or results of tasks, of a call in the working folder, which has the inputs."""
    stage, out = call.stage, call.out
    assert main(stage, words(call)) == 0, f"the small call of {call.key} failed"
    if stage is TRAINING and call.method == "tokenize":
        return np.fromfile(Path(out, "corpus.bin"), np.uint16)[::8].tolist()
    if stage is TRAINING:
        log = Path(out, "train_log.jsonl").read_text().split("\n")[:-1]
        return [json.loads(line)["loss"] for line in log if "loss" in line]
    if stage is EVALUATION:
        manifest = json.loads(Path(f"{out}.yaml.manifest.json").read_text())
        return [task["value"] for task in manifest["tasks"].values()]
    lines = Path(f"{out}.jsonl").read_text().split("\n")[:-1]
    if stage is SCORING:
        return [json.loads(line)["new"] for line in lines]
    places = {line: number for number, line in enumerate(Path("in.jsonl").read_text().split("\n"))}
    return [places[line] for line in lines]


def recorded() -> dict[str, dict[str, Any]]:
    """Stage and name of a method -> its version, its numbers."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def same(one: list[float], other: list[float]) -> bool:
    """Whether results agree; processors differ in the last digits."""
    return len(one) == len(other) and np.allclose(one, other, rtol=1e-3, atol=1e-4)


def record() -> None:
    """Write what is new; stop at a changed result whose method has the version that it had."""
    known = recorded()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_inputs(Path(folder))
        for call in calls():
            key, now = call.key, version(call.stage, call.method)
            found, before = result(call), known.get(key)
            if before and before["version"] == now and not same(found, before["result"]):
                sys.exit(f"{key} gives other results: if they are right, raise its version (VERSIONS in its method.py)")
            if not before or before["version"] != now:
                known[key] = {"version": now, "result": [round(value, 6) for value in found]}
    FILE.write_text("{\n" + ",\n".join(f'"{key}": {json.dumps(known[key])}' for key in sorted(known)) + "\n}\n")


if __name__ == "__main__":
    record()
