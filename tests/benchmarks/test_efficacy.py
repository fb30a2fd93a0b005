"""The study of data efficacy: its numbers against oracles, its plan against the stages, its data, its driver."""

import dataclasses
import importlib
import json
import random
import shlex
import subprocess
import sys
from string import Template

import numpy as np
import pytest
from scipy import stats
from transformers import AutoTokenizer

from benchmarks.efficacy import corpus, junk_detection, plan, report, run, statistics
from benchmarks.efficacy.statistics import Run
from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY
from model_eval.contamination import grams

REAL, EMBEDDED = plan.load("real"), plan.load("embedded")


def table_of(values):
    """Runs of arms a, b, c, ... from starts 0, 1, 2, ..., one each. values: (arms, starts)."""
    return [Run("abcd"[arm], start, float(value)) for (arm, start), value in np.ndenumerate(values)]


def test_two_arms_from_the_same_starts_are_students_paired_t_test():
    values = np.random.default_rng(1).normal([[1], [0]], 1, (2, 5))
    expected = stats.ttest_rel(*values)
    interval, found = expected.confidence_interval(statistics.CONFIDENCE), None
    for runs in (table_of(values), table_of(values + 0.3) + table_of(values - 0.3)):  # two runs count as their mean
        found = statistics.Fit(runs).difference("a", "b")
        assert (found.value - found.margin, found.value + found.margin) == pytest.approx((interval.low, interval.high))
        assert found.clear == (interval.low > 0 or interval.high < 0)
        assert found.p == pytest.approx(expected.pvalue)
    assert found.runs == (10, 10)


def test_noise_of_a_complete_design_is_what_is_left_of_a_two_way_table():
    table = np.random.default_rng(0).normal(size=(4, 6)) + np.arange(6)
    fit = statistics.Fit(table_of(table))
    left = table - table.mean(0) - table.mean(1)[:, None] + table.mean()
    assert (fit.freedom, fit.deviation) == (15, pytest.approx(((left**2).sum() / 15) ** 0.5))
    difference, (level, margin) = fit.difference("a", "b"), fit.level("c")
    assert difference.value == pytest.approx(table[0].mean() - table[1].mean()) and difference.runs == (6, 6)
    reach = stats.t.ppf(0.975, 15) * fit.deviation
    assert (difference.margin, margin) == (pytest.approx(reach * (2 / 6) ** 0.5), pytest.approx(reach * (1 / 6) ** 0.5))
    assert level == pytest.approx(table[2].mean())


def test_intervals_hold_what_they_promise():
    """Of 400 studies with strong starts, on which the effects of arms depend, about 95 % hold the difference."""
    hits, generator, arms = 0, np.random.default_rng(0), [f"arm {number}" for number in range(20)]
    for _ in range(400):
        starts, runs = generator.normal(0, 10, 3), []
        for number, arm in enumerate(arms):
            own = starts + generator.normal(0, 1, 3)
            runs += [
                Run(arm, seed % 3, number + own[seed % 3] + generator.normal()) for seed in range((3, 5)[number % 2])
            ]
        found = statistics.Fit(runs).difference(arms[1], arms[3])
        hits += abs(found.value + 2) <= found.margin
    assert 0.92 <= hits / 400 <= 0.99


def test_whether_effects_differ_between_starts_is_the_f_test_of_two_way_analysis_of_variance():
    values = np.random.default_rng(0).normal(size=(3, 4, 2))  # arms, starts, runs
    cells, mean = values.mean(2), values.mean()
    between = 2 * ((cells - cells.mean(1)[:, None] - cells.mean(0) + mean) ** 2).sum() / (2 * 3)
    ratio = between / (((values - cells[:, :, None]) ** 2).sum() / 12)
    found = statistics.lack_of_fit(table_of(values[:, :, 0]) + table_of(values[:, :, 1]))
    assert found == (pytest.approx(ratio), (6, 12), pytest.approx(1 - stats.f.cdf(ratio, 6, 12)))
    assert np.isnan(statistics.lack_of_fit(table_of(cells)).p)


@pytest.mark.parametrize(("differing", "low", "high"), [(0, 0.06, 0.14), (2, 0.8, 1)])
def test_effects_that_differ_between_starts_are_found_where_there_are_some(differing, low, high):
    """Of 400 studies whose arms have 3 or 5 runs, about one in ten has p < 0.1 where effects are the same."""
    generator, below = np.random.default_rng(0), 0
    for _ in range(400):
        own = generator.normal(0, differing, (6, 3)) + generator.normal(0, 10, 3)
        cells = [(arm, seed % 3) for arm in range(6) for seed in range((3, 5)[arm % 2])]
        runs = [Run(str(arm), start, arm + own[arm, start] + generator.normal()) for arm, start in cells]
        below += statistics.lack_of_fit(runs).p < 0.1
    assert low <= below / 400 <= high


def test_every_table_is_there_for_data_of_one_domain(monkeypatch):
    cells = [cell for cell in EMBEDDED.cells() if cell.arm.name in ("shuffle", "lqs50", "random50")]
    values = [{"manual": 2.0 + cell.block - 0.1 * (cell.arm.name == "lqs50"), "docstring": 3.0} for cell in cells]
    found = [
        {"arm": cell.arm.name, "block": cell.block, "bits_per_byte": value, "curve": [[0, 2], [1, 1]], "cost": COST}
        for cell, value in zip(cells, values, strict=True)
    ]
    monkeypatch.setattr(report.records, "read", lambda data, kind="cells": found if kind == "cells" else [])
    made = {name: table() for name, table in report.tables("embedded").items()}
    assert "| lqs50 - random50 | 5 / 5 | **-0.1000** ±" in made["main"]


COST = {name: {"wall": 1.0, "cpu": 1.0, "peak_mib": 1} for name in ("organise", "train", "evaluate")}


def test_holm_corrects_as_the_literal_procedure_does():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]  # 0.03 is above 0.05 / 2
    assert statistics.holm([0.04, float("nan")]) == [False, False] and statistics.holm([]) == []
    generator = np.random.default_rng(0)
    for _ in range(50):
        values = generator.beta(0.3, 3, 7).tolist()
        adjusted = [max(min(1, (7 - sum(b < a for b in values)) * a) for a in values if a <= one) for one in values]
        assert statistics.holm(values) == [one < 0.05 for one in adjusted]


def test_arms_that_no_start_connects_have_no_difference():
    apart = [Run("a", 0, 1.0), Run("a", 1, 2.0), Run("b", 2, 1.0)]
    assert statistics.Fit(apart).difference("a", "b") is None
    assert statistics.Fit(apart).difference("a", "z") is None
    assert np.isnan(statistics.Fit(apart).level("b")).all()
    by_another = [*apart, Run("c", 1, 5.0), Run("c", 2, 7.0)]  # a is 3 below c, which is 6 above b
    assert statistics.Fit(by_another).difference("a", "b").value == pytest.approx(3)


def test_without_a_second_run_nothing_is_clear():
    found = statistics.Fit([Run("a", 0, 1.0), Run("b", 0, 2.0)]).difference("a", "b")
    assert found.value == pytest.approx(-1) and np.isnan(found.margin) and not found.clear


def test_area_is_the_mean_height():
    assert statistics.area([[0, 4], [1, 2], [3, 0]]) == pytest.approx((3 * 1 + 1 * 2) / 3)


def test_auc_counts_pairs():
    good, bad = np.array([3.0, 1.0, 2.0]), np.array([2.0, 0.0])
    pairs = [(one > other) + 0.5 * (one == other) for one in good for other in bad]
    assert junk_detection.auc(good, bad) == pytest.approx(np.mean(pairs))


def test_a_score_that_knows_the_truth_and_one_that_inverts_it():
    qualities = np.repeat(["clean", "low", "planted"], [60, 25, 15])
    kinds = np.where(qualities == "planted", "noise", qualities)
    knowing = np.linspace(1, 0, 100)
    right, wrong = (junk_detection.judge(score, kinds, qualities) for score in (knowing, -knowing))
    assert right["auc"] == {"low": 1.0, "noise": 1.0} and wrong["auc_planted"] == 0.0
    assert right["planted"]["top 10%"] == 0.0 and right["planted"]["bottom 10%"] == 1.0
    assert wrong["planted"] == {"top 1%": 1.0, "top 5%": 1.0, "top 10%": 1.0, "bottom 10%": 0.0}
    assert right["mean_percentile"]["noise"] == pytest.approx(0.075)


def test_factors_multiply_to_the_scores(tmp_path):
    random_state, steps = np.random.default_rng(0), []
    for step in (0, 20, 40):
        found = {
            "dots": random_state.normal(size=9),
            "norms": random_state.uniform(1, 2, 9),
            "co_state_norm": 3.0 + step,
        }
        np.savez(tmp_path / f"step-{step:06}.npz", **found)
        steps.append(found)
    scores, _ = junk_detection.ablations(tmp_path)
    assert np.allclose(scores["lqs"], steps[0]["dots"] / steps[1]["norms"] + steps[1]["dots"] / steps[2]["norms"])
    assert np.allclose(scores["pds"], steps[0]["dots"] + steps[1]["dots"])
    assert np.allclose(scores["without learnability"], sum(one["dots"] / one["norms"] for one in steps[:2]))


@pytest.mark.parametrize("name", REAL.arms)
def test_the_stages_take_every_call_of_an_arm(name):
    for call in (*REAL.corpus, *REAL.arms[name].calls):
        stage, *words = shlex.split(Template(call).substitute(seed=3, **vars(REAL.sizes)))
        words = ["in.jsonl", "out.jsonl", *words, "--dry-run=keys"]
        assert main(importlib.import_module(f"{stage}.entry").STAGE, words) == 0


def test_the_plan_names_arms_that_exist_and_runs_what_it_asks():
    for one in (REAL, EMBEDDED):
        assert one.sizes.max_tokens < one.sizes.corpus * one.sizes.chunk_tokens
        cells = one.cells()
        assert len({cell.name for cell in cells}) == len(cells)
        assert {cell.arm.name for cell in cells} == set(one.arms)
        seeds = {name: [cell.seed for cell in cells if cell.arm.name == name] for name in one.arms}
        for first, second in one.contrasts["main"]:
            assert len(seeds[first]) >= 5 and len(seeds[second]) >= 5
        for first, second in one.contrasts["others"]:
            assert len(seeds[first]) >= 3 and len(seeds[second]) >= 3


def test_an_arm_starts_from_the_file_with_all_its_scores():
    sources = {name: arm.source for name, arm in REAL.arms.items()}
    assert sources["shuffle"] == sources["junk-last"] == "pool"
    assert sources["kenlm50"] == "kenlm" and sources["lqs-zigzag"] == "lqs" and sources["pds-sorting"] == "pds"


def test_what_changes_a_cell_changes_its_identity():
    cells = {cell.name: cell for cell in REAL.cells()}
    identities = {name: REAL.identity(cell, "hash") for name, cell in cells.items()}
    assert len(set(identities.values())) == len(cells)
    assert REAL.identity(cells["shuffle-0"], "other") != identities["shuffle-0"]


class Words:
    """A tokenizer whose tokens are words, longer words being several."""

    def __call__(self, text, **_):
        starts = [
            i for i in range(len(text)) if not text[i].isspace() and (i == 0 or text[i - 1].isspace() or i % 7 == 0)
        ]
        return {"offset_mapping": [(start, start + 1) for start in starts]}


@pytest.mark.parametrize("seed", range(5))
def test_chunks_are_full_and_whole_words(seed):
    generator = random.Random(seed)
    words = ["x" * generator.randint(1, 9) for _ in range(300)]
    text, length = "  ".join(words), 20
    found = list(corpus.chunks(text, Words(), length))
    joined = " ".join(found).split()
    assert joined == words[: len(joined)]
    assert len(found) > 3 and len(words) - len(joined) <= 2 * length
    position = 0
    for piece in found:
        position = text.index(piece, position)
        starts = [start for start, _ in Words()(text)["offset_mapping"] if position <= start < position + len(piece)]
        assert length - 3 <= len(starts) <= length
        position += len(piece)


def test_a_run_of_letters_longer_than_a_chunk_is_left_out():
    assert not any("y" in piece for piece in corpus.chunks("y" * 500 + " " + "short words " * 40, Words(), 20))


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    given = corpus.source("embedded", tmp_path_factory.mktemp("texts"))
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    for folder in folders:
        corpus.build(given, folder, EMBEDDED.sizes)
    return folders


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def test_embedded_data_is_as_planned_and_the_same_every_time(embedded):
    one, two = (json.loads((folder / "data.json").read_text()) for folder in embedded)
    assert one == two
    sizes, pool = EMBEDDED.sizes, rows_of(embedded[0] / "pool.jsonl")
    assert (len(rows_of(embedded[0] / "warm.jsonl")), len(rows_of(embedded[0] / "target-manual.jsonl"))) == (128, 128)
    assert abs(len(pool) - sizes.pool) <= 2
    assert np.mean([row["planted"] for row in pool]) == pytest.approx(0.13, abs=0.02)
    assert np.mean([row["quality"] == "clean" for row in pool]) == pytest.approx(0.62, abs=0.03)


def test_a_training_is_just_less_than_one_pass(embedded):
    """So an order does not begin again at the end."""
    sizes, tokenizer = EMBEDDED.sizes, AutoTokenizer.from_pretrained(embedded[0] / "model")
    texts = [row["text"] for row in rows_of(embedded[0] / "pool.jsonl")]
    tokens = [len(ids) + 2 for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]  # BOS and EOS
    assert 0.99 < sizes.max_tokens / (sizes.corpus * np.mean(tokens)) < 1


def test_nothing_that_is_held_out_can_be_learned(embedded):
    folder = embedded[0]
    heldout = [row for path in (folder / "heldout").glob("*.jsonl") for row in rows_of(path)]
    found = {gram for row in heldout for gram in grams(row["text"]).tolist()}
    taught = [row for name in ("pool", "warm", "target-manual") for row in rows_of(folder / f"{name}.jsonl")]
    assert len(found) > 1000
    reference = rows_of(folder / "reference.jsonl")
    assert len(reference) > 20
    assert all(found.isdisjoint(grams(row["text"]).tolist()) for row in taught + reference)
    documents = {(row["id"].rsplit("-", 2)[0], row["id"].rsplit("-", 2)[1]) for row in taught}
    assert documents.isdisjoint((row["id"].rsplit("-", 2)[0], row["id"].rsplit("-", 2)[1]) for row in heldout)


def test_results_of_another_plan_are_computed_again(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/data.json").write_text('{"sha256": "x"}')

    def make(study, call, paths, *_):
        run.manifest_path(paths[-1]).parent.mkdir(parents=True, exist_ok=True)
        run.manifest_path(paths[-1]).write_text("{}")
        for path in paths[1:]:
            path.touch()
        return {"wall": 0, "cpu": 0, "peak_mib": 0}

    monkeypatch.setattr(run.Study, "call", make)

    def jobs(**changes):
        changed = dataclasses.replace(EMBEDDED, **changes)
        [cell] = [cell for cell in changed.cells() if cell.name == "lqs50-0"]
        return run.Study(changed, tmp_path, tmp_path / "records").jobs([cell])[:-1]

    assert not any(job.done() for job in jobs())
    for one in jobs():
        one.do()
    assert all(job.done() for job in jobs())
    changed = EMBEDDED.scores | {"lqs": plan.Score("kenlm", EMBEDDED.scores["lqs"].call + " steps=99")}
    assert [job.name for job in jobs(scores=changed) if not job.done()] == ["score-lqs", "corpus-lqs-0"]
    changed = EMBEDDED.warm_training | {"learning_rate": 1.0}
    assert {job.name for job in jobs(warm_training=changed) if job.done()} == set()


def test_a_finished_cell_asks_for_nothing(embedded, tmp_path):
    (tmp_path / "data").symlink_to(embedded[0])
    study = run.Study(EMBEDDED, tmp_path, tmp_path / "records")
    [cell] = [cell for cell in EMBEDDED.cells() if cell.name == "lqs50-0"]
    assert len(study.jobs([cell])) > 3
    run.write(tmp_path / "records/cells/lqs50-0.json", {"identity": EMBEDDED.identity(cell, study.hash)})
    assert [job.name for job in study.jobs([cell])] == ["lqs50-0"]


def test_a_record_of_another_plan_is_refused(embedded, tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "data").symlink_to(embedded[0])
    study = run.Study(EMBEDDED, folder, tmp_path / "records")
    [cell] = [cell for cell in EMBEDDED.cells() if cell.name == "shuffle-0"]
    (tmp_path / "records" / "cells").mkdir(parents=True)
    (tmp_path / "records" / "cells" / "shuffle-0.json").write_text('{"identity": "of old"}')
    with pytest.raises(SystemExit, match="another plan"):
        [job.done() for job in study.jobs([cell])]


def test_the_tables_of_the_page_are_those_of_the_records():
    page = report.PAGE.read_text(encoding="utf-8")
    assert report.MARKED.search(page)
    assert report.refreshed(page, report.tables("real")) == page


@pytest.mark.slow
def test_a_short_study_runs_and_resumes(tmp_path):
    """Data, scores, a random and a selecting cell, on embedded text; what is finished is not done again."""

    def study(only):
        words = ["benchmarks.efficacy.run", "embedded", "--folder", str(tmp_path / "work"), "--only", only]
        command = [sys.executable, "-m", *words, "--records", str(tmp_path / "records")]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    study("shuffle-0")
    assert "score-lqs" in study("lqs50-0")
    assert "to go" not in study("lqs50-0")
    found = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "records" / "cells").glob("*.json")}
    assert found.keys() == {"shuffle-0", "lqs50-0"}
    for record in found.values():
        assert all(0 < value < 20 for value in record["bits_per_byte"].values())
        assert record["curve"][-1][1] < record["curve"][0][1], "it has learnt something"


def test_scores_are_added_to_a_record_that_stays_as_it_is():
    recorded = {"rows": 9, "scores": {"a": {"auc": 1}}, "costs": {}, "spearman": {"a": {"a": 1.0}}, "factors": {"x": 1}}
    found = {
        "rows": 9,
        "scores": {"a": {"auc": 2}, "b": {"auc": 3}},
        "costs": {"a": {"wall": 9}, "b": {"wall": 4}},
        "spearman": {"a": {"a": 0.9, "b": 0.5}, "b": {"a": 0.5, "b": 1.0}},
        "factors": {"x": 2},
    }
    assert junk_detection.added(recorded, found) == {
        "rows": 9,
        "scores": {"a": {"auc": 1}, "b": {"auc": 3}},
        "costs": {"b": {"wall": 4}},
        "spearman": {"a": {"a": 1.0, "b": 0.5}, "b": {"a": 0.5, "b": 1.0}},
        "factors": {"x": 1},
    }
    with pytest.raises(SystemExit):
        junk_detection.added(recorded, found | {"rows": 8})
