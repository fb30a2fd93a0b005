"""Comparison of results: what is grouped, what is refused, and intervals against closed forms."""

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from data_common.messages.errors import UserError, exit_code
from model_eval import report
from model_eval.bootstrap import interval, resampled_sums
from model_eval.compare.arms import arm_name
from model_eval.compare.entry import run
from model_eval.compare.outcomes import shared_accuracies
from model_eval.compare.paired import differences
from model_eval.compare.picture import curves
from model_eval.compare.results import read_results
from model_eval.compare.table import average_cell, cells, markdown
from model_eval.evaluation import traces
from model_eval.items import digest, items_of, save_items
from tests.data_common.test_report_page import Reader
from tests.data_common.test_yaml_text import FAULTS

N = 400


def outcome(correct, **changes) -> tuple[dict, np.ndarray]:
    """The result of a task and its items."""
    items = items_of([str(number) for number in range(len(correct))], np.asarray(correct, float))
    mean = float(np.mean(correct))
    stderr = math.sqrt(mean * (1 - mean) / (len(correct) - 1))
    result = {"metric": "acc", "value": mean, "stderr": stderr, "n": len(correct), "version": "1.0", "num_fewshot": 0}
    return result | {"items": digest(items), "limit": None, "filter": "none", "data": ["piqa.jsonl"]} | changes, items


def write(folder, name, model, keep_items=True, facts=None, **tasks):
    """A RESULT.yaml as the stage writes it; tasks: name -> (result, items)."""
    path = folder / f"{name}.yaml"
    content = {"model": model, "method": "m"} | (facts or {}) | {"tasks": {key: one[0] for key, one in tasks.items()}}
    path.write_text(yaml.safe_dump(content))
    for task, (_, items) in tasks.items():
        if keep_items:
            save_items(traces(path) / task, items)
    return str(path)


def coin(seed, share=0.5, n=N):
    return np.random.default_rng(seed).random(n) < share


def test_resampled_sums_have_the_moments_of_a_bootstrap():
    columns = np.random.default_rng(0).normal(size=(50, 2))
    columns[:, 1] = -columns[:, 0]
    sums = resampled_sums(columns, 4000, np.random.default_rng(1))
    assert sums.shape == (4000, 2) and np.allclose(sums[:, 0], -sums[:, 1])
    assert sums[:, 0].mean() == pytest.approx(columns[:, 0].sum(), abs=0.5)
    assert sums[:, 0].std() == pytest.approx(columns[:, 0].std() * math.sqrt(50), rel=0.05)
    assert interval(np.arange(101.0)) == pytest.approx([2.5, 97.5])


def test_paired_interval_is_that_of_the_differences_of_items(tmp_path):
    base, other = coin(0), coin(0)
    other[:40] = ~other[:40]
    paths = [write(tmp_path, "a", "m/a", t=outcome(base)), write(tmp_path, "b", "m/b", t=outcome(other))]
    found = differences(read_results(paths), "a", "b", 4000, 0.95, 0)["t"]
    delta = other.astype(float) - base
    half = 1.96 * delta.std() / math.sqrt(N)
    assert found.value == pytest.approx(delta.mean())
    assert (found.low, found.high) == pytest.approx((delta.mean() - half, delta.mean() + half), abs=0.004)
    unpaired = 1.96 * math.sqrt(base.var() / N + other.var() / N)
    assert half < unpaired / 2  # the gain of pairing


def test_equal_models_differ_by_noise_only(tmp_path):
    same = outcome(coin(0))
    paths = [write(tmp_path, name, f"m/{name}", t=same) for name in "ab"]
    found = differences(read_results(paths), "a", "b", 100, 0.95, 0)["t"]
    assert (found.value, found.low, found.high) == (0, 0, 0) and found.is_noise()


def test_average_of_tasks_with_independent_items(tmp_path):
    tasks = {
        name: {task: outcome(coin(seed + step)) for seed, task in enumerate("stu")}
        for step, name in ((0, "a"), (9, "b"))
    }
    comparison = read_results([write(tmp_path, name, f"m/{name}", **tasks[name]) for name in "ab"])
    found = differences(comparison, "a", "b", 4000, 0.95, 0)
    assert found["average"].value == pytest.approx(np.mean([found[task].value for task in "stu"]))
    widths = [found[task].high - found[task].low for task in "stu"]
    expected = math.sqrt(sum(width**2 for width in widths)) / 3
    assert found["average"].high - found["average"].low == pytest.approx(expected, rel=0.1)
    one = average_cell(comparison, "a")
    assert one.value == pytest.approx(np.mean([tasks["a"][task][0]["value"] for task in "stu"]))
    assert one.stderr == pytest.approx(math.sqrt(sum(tasks["a"][task][0]["stderr"] ** 2 for task in "stu")) / 3)


def test_seeds_of_one_arm_are_one_column(tmp_path):
    shares = {"a-seed1": 0.4, "a-seed2": 0.6, "b-seed1": 0.5}
    paths = [
        write(tmp_path, name, f"m/{name}", t=outcome(coin(number, share)))
        for number, (name, share) in enumerate(shares.items())
    ]
    comparison = read_results(paths)
    values = [seed.result["value"] for seed in comparison["t"]["a"]]
    found = cells(comparison)["t"]
    assert list(found) == ["a", "b"] and len(values) == 2
    assert found["a"].value == pytest.approx(np.mean(values))
    assert found["a"].deviation == pytest.approx(abs(values[0] - values[1]) / math.sqrt(2))
    assert (found["a"].seeds, found["a"].stderr, found["b"].deviation) == (2, None, None)
    several = differences(comparison, "b", "a", 2000, 0.95, 0)["t"]
    single = differences(read_results(paths[1:]), "b", "a", 2000, 0.95, 0)["t"]
    assert several.value == pytest.approx(np.mean(values) - found["b"].value)
    assert several.high - several.low > 1.2 * (single.high - single.low)  # the seeds' own noise is in it


@pytest.mark.parametrize("facts, message", [
    ([{"scoring": "lqs"}, {"scoring": "pds"}], "scoring lqs against pds"),
    ([{"selection_ratio": 0.5}, {"selection_ratio": 0.1}], "selection_ratio 0.5 against 0.1"),
    ([{"selection_ratio": 0.5, "ordering": "sorting"}, {"selection_ratio": 0.501, "ordering": "sorting"}], None),
])  # fmt: skip
def test_models_of_one_name_from_different_experiments_are_no_seeds(tmp_path, facts, message):
    outcomes = [outcome(coin(number)) for number in range(2)]
    paths = [
        write(tmp_path, name, f"{name}/DELT", facts=fact, t=one)
        for name, fact, one in zip("ab", facts, outcomes, strict=True)
    ]
    if message is None:
        assert len(read_results(paths)["t"]["DELT"]) == 2
    else:
        with pytest.raises(UserError, match=rf"a\.yaml and .*b\.yaml .*'DELT'.* {message} \(evaluate with arm=NAME"):
            read_results(paths)


@pytest.mark.parametrize("metric, higher, words, best", [
    ("bits_per_byte", False, "bits_per_byte (lower is better)", "**0.1000** | 0.9000"),
    ("mcc", True, "mcc (higher is better)", "0.1000 | **0.9000**"),
    ("odd", None, "odd", "0.1000 | 0.9000"),
])  # fmt: skip
def test_a_result_says_which_values_of_its_metric_are_better(tmp_path, metric, higher, words, best):
    result = {"metric": metric, "higher_is_better": higher, "stderr": None, "n": 5}
    paths = [
        write(tmp_path, name, f"m/{name}", keep_items=False, t=(result | {"value": value}, None))
        for name, value in (("a", 0.1), ("b", 0.9))
    ]
    assert f"| t | {words} | {best} |" in markdown(read_results(paths), {}, "a", 0.95)
    assert f"| t | {words} | 0.1000 (n = 5) |" in report.table(report.read_results([f"a={paths[0]}"]), {})


def test_held_out_losses_in_the_log_are_not_drawn_as_training_losses(tmp_path):
    log = [{"step": 1, "loss": 3.0}, {"step": 1, "heldout_loss": 3.5}, {"step": 2, "loss": 2.0}]
    (tmp_path / "train_log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
    assert report._loss_curve(tmp_path) == ([1, 2], [3.0, 2.0])


@pytest.mark.parametrize("model, facts, name", [
    ("models/mine-seed3", {}, "mine"), ("models/mine_seed_12", {}, "mine"), ("org/mine", {}, "mine"),
    ("models/seedling", {}, "seedling"), ("models/x-seed1", {"arm": "DELT"}, "DELT"),
])  # fmt: skip
def test_names_of_arms(model, facts, name):
    assert arm_name({"model": model} | facts) == name


@pytest.mark.parametrize("changes, message", [
    ({"version": "2.0"}, "version 1.0 against 2.0"),
    ({"num_fewshot": 5}, "num_fewshot 0 against 5"),
    ({"limit": 9}, "limit None against 9"),
    ({"n": 9, "limit": 9}, "limit None against 9; n 400 against 9"),
    ({"metric": "acc_norm"}, "metric acc against acc_norm"),
    ({"items": "0123", "data": ["other.jsonl"]}, r"other items \(data \['piqa.jsonl'\] against \['other.jsonl'\]\)"),
])  # fmt: skip
def test_what_is_not_comparable_is_refused(tmp_path, changes, message):
    paths = [
        write(tmp_path, "a", "m/a", t=outcome(coin(0))),
        write(tmp_path, "b", "m/b", t=outcome(coin(1), **changes)),
    ]
    with pytest.raises(UserError, match=rf"a\.yaml and .*b\.yaml cannot be compared on t: {message}"):
        read_results(paths)


def test_items_that_are_gone_or_of_another_result_are_not_paired(tmp_path, capsys):
    first = write(tmp_path, "a", "m/a", t=outcome(coin(0)))
    write(tmp_path, "b", "m/b", t=outcome(coin(1)))
    second = write(tmp_path, "b", "m/b", keep_items=False, t=outcome(coin(2)))  # the items are still those of before
    third = write(tmp_path, "c", "m/c", keep_items=False, t=outcome(coin(3)))
    assert differences(read_results([first, second]), "a", "b", 10, 0.95, 0) == {}
    assert exit_code(lambda: run([first, third, f"output={tmp_path}/out"])) == 0
    assert "No items are stored of both for t: no paired difference." in capsys.readouterr().out


def test_only_what_all_arms_have_is_averaged(tmp_path):
    loss = ({"metric": "bits_per_byte", "value": 1.5, "stderr": 0.1, "n": 9}, coin(0)[:0])
    first = write(tmp_path, "a", "m/a", keep_items=False, t=outcome(coin(0)), u=outcome(coin(1)), held=loss)
    second = write(tmp_path, "b", "m/b", keep_items=False, u=outcome(coin(1)), held=loss)
    comparison = read_results([first, second])
    assert shared_accuracies(comparison) == ["u"]
    assert "average" not in cells(comparison)


def test_two_files_of_one_model_are_joined_unless_they_overlap(tmp_path):
    first = write(tmp_path, "tasks", "m/a", t=outcome(coin(0)))
    second = write(tmp_path, "held", "m/a", u=outcome(coin(1)))
    comparison = read_results([first, second])
    assert {task: list(arms) for task, arms in comparison.items()} == {"t": ["a"], "u": ["a"]}
    again = write(tmp_path, "again", "m/a", t=outcome(coin(0)))
    assert len(read_results([first, second, again])["t"]["a"]) == 1
    with pytest.raises(UserError, match="are both of t and the model m/a, but differ"):
        read_results([first, second, write(tmp_path, "other", "m/a", t=outcome(coin(1)))])


def test_table_csv_and_picture(tmp_path, capsys):
    made = {"scoring": "lqs", "selection": "top-r", "ordering": "folding"}
    better = outcome(coin(0, 0.9))
    paths = [
        write(tmp_path, "base", "m/base", t=outcome(coin(0, 0.3)), u=outcome(coin(1)), facts={"selection_ratio": 1.0}),
        write(tmp_path, "half", "m/half", t=better, u=outcome(coin(1)), facts=made | {"selection_ratio": 0.5}),
        write(tmp_path, "tenth", "m/tenth", t=better, u=outcome(coin(2)), facts=made | {"selection_ratio": 0.1}),
    ]
    assert exit_code(lambda: run([*paths, "baseline=base", f"output={tmp_path}/out"])) == 0
    shown = capsys.readouterr().out
    assert "| task | metric | base | half | tenth |" in shown
    row = next(line for line in shown.split("\n") if line.startswith("| t |"))
    assert row.count("**") == 4 and f"**{better[0]['value']:.4f} ± {better[0]['stderr']:.4f}**" in row
    assert "half - base:" in shown and "| better |" in shown and "| noise |" in shown
    with open(tmp_path / "out.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * 3 and {line["task"] for line in lines} == {"t", "u", "average"}
    half = next(line for line in lines if (line["task"], line["arm"]) == ("t", "half"))
    assert (half["baseline"], half["n"]) == ("base", str(N)) and float(half["low"]) > 0
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    found = curves(read_results(paths))
    assert {name: [ratio for ratio, _ in points] for name, points in found.items()} == {
        "base": [1.0],
        "lqs + top-r + folding": [0.1, 0.5],
    }


def test_the_page_has_the_numbers_of_the_table(tmp_path, capsys):
    tasks = {"<b>t": outcome(coin(0, 0.3)), "u": outcome(coin(1))}
    paths = [
        write(tmp_path, "base", "m/base", **tasks),
        write(tmp_path, "x", "m/x", **tasks | {"<b>t": outcome(coin(3))}),
    ]
    assert exit_code(lambda: run([*paths, f"output={tmp_path}/out"])) == 0
    shown, page = capsys.readouterr().out, (tmp_path / "out.html").read_text()
    found = Reader(page)
    assert not found.open and "b" not in [tag for tag, _ in found.elements] and "<b>t" in found.texts["th"]
    numbers = re.findall(r"[+-]?\d\.\d{4}", shown)
    assert len(numbers) > 10 and all(number in found.texts["td"] for number in numbers)
    [lines] = [re.findall(r'"whisker" d="M([\d.]+) [\d.]+H([\d.]+)"', page)]
    [zero] = re.findall(r'<path class="axis" d="M([\d.]+) \d+v\d+"', page)
    assert len(lines) == 3  # of two tasks and their average
    assert [float(low) <= float(zero) <= float(high) for low, high in lines] == [
        line.endswith("noise |") for line in shown.split("x - base:")[1].split("\n") if " to " in line
    ]


@pytest.mark.parametrize("words, message", [
    (["none.yaml"], "cannot read none.yaml: No such file"),
    (["odd.yaml"], "odd.yaml is no result of model_eval"),
    (["number.yaml"], "number.yaml is no result of model_eval"),
    (["date.yaml"], "date.yaml is no result of model_eval"),
    (["baseline=a"], "RESULT.yaml is missing"),
    (["a.yaml", "baseline=c"], "baseline=c is not one of the arms a"),
    (["a.yaml", "base=a"], "unknown key 'base'; did you mean 'baseline'"),
    (["a.yaml", "--baseline", "a"], "unknown option --baseline"),
    (["a.yaml", "confidence=2"], "confidence: 2 is not valid"),
])  # fmt: skip
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.yaml").write_text("- 1\n")
    (tmp_path / "number.yaml").write_text("model: 3\ntasks: {}\n")
    (tmp_path / "date.yaml").write_text("when: 2020-13-45\n")
    write(tmp_path, "a", "m/a", t=outcome(coin(0)))
    assert exit_code(lambda: run(words)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "comparison.csv").exists()


ODD = [None, True, [], [1], {}, {"a": 1}, "x", -1.0, "DELETED"]
CHECKED = {"model": ["x"], "tasks": [], "scoring": [None, "x", "DELETED"], "selection_ratio": [None, -1.0, "DELETED"]}
CHECKED |= {
    "t.metric": ["x"],
    "t.value": [-1.0],
    "t.stderr": [None],
    "t.n": [],
    "t.items": [None, "x", "DELETED"],
    "t": [],
}


@pytest.mark.parametrize("place", CHECKED)
def test_what_is_not_as_the_stage_writes_it_is_no_result(tmp_path, monkeypatch, capsys, place):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, file, **options: None)  # slow
    write(tmp_path, "good", "m/good", t=outcome(coin(0)))
    for value in ODD:
        path = write(tmp_path, "odd", "m/odd", t=outcome(coin(1)), facts={"scoring": "lqs"})
        content = yaml.safe_load(Path(path).read_text())
        *parents, key = place.split(".")
        holder = content["tasks"] if place == "t" else content["tasks"]["t"] if parents else content
        holder[key] = value
        if value == "DELETED":
            del holder[key]
        (tmp_path / "odd.yaml").write_text(yaml.safe_dump(content))
        for call in (
            lambda: exit_code(lambda: run(["good.yaml", "odd.yaml", "bootstrap_iterations=2"])),
            lambda: report.main(["report.md", "good=good.yaml", "odd=odd.yaml"]),
        ):
            allowed = (0, 2) if value in CHECKED[place] or (place, value) in (("tasks", {}), ("t", "DELETED")) else (2,)
            assert call() in allowed, (place, value)
            assert capsys.readouterr().err.count("\n") <= 1


@pytest.mark.parametrize("text", [text for text, _ in FAULTS if "\udcff" not in text], ids=lambda text: text[:12])
def test_yaml_that_is_none_is_no_result(tmp_path, capsys, text):
    (tmp_path / "odd.yaml").write_text(text)
    assert exit_code(lambda: run([str(tmp_path / "odd.yaml")])) == 2
    error = capsys.readouterr().err
    assert "odd.yaml is no result of model_eval (" in error and error.count("\n") == 1


def test_arms_without_a_common_task(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a", "m/a", t=outcome(coin(0)))
    write(tmp_path, "b", "m/b", u=outcome(coin(1)))
    assert exit_code(lambda: run(["a.yaml", "b.yaml"])) == 0
    assert "b and a have no task in common." in capsys.readouterr().out
