"""Arms and runs are known by what made them: models that were in fact trained, by any name."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

from data_common.calls.cli import main
from data_common.files.atomic import manifest_path
from data_common.files.fingerprint import fingerprint
from data_common.messages.errors import UserError
from data_ordering.entry import STAGE as ORDERING
from data_selection.entry import STAGE as SELECTION
from model_eval.compare.arms import changes
from model_eval.compare.entry import compare
from model_eval.compare.results import read_results
from model_eval.entry import STAGE as EVALUATION
from model_eval.provenance import made_by
from model_train.entry import STAGE as TRAINING
from tests.model_eval.test_compare import coin, outcome, write
from tests.models import save_model
from tests.records import declare

KEYS = ["max_length=16", "batch_size=2", "gradient_accumulation_steps=1", "max_tokens=128", "warmup_steps=0"]
KEYS += ["save_steps=2", "device=cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models of two learning rates, two seeds and two selections; each is called `model`."""
    folder, before = tmp_path_factory.mktemp("arms"), os.getcwd()
    os.chdir(folder)
    rows = [{"text": f"row {n} of words", "score": n} for n in range(24)]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for r in ("0.5", "0.75"):
        assert main(SELECTION, ["in.jsonl", f"top-{r}.jsonl", "top-r", f"r={r}", "direction=higher"]) == 0
        for seed in "12":
            words = [f"top-{r}.jsonl", f"top-{r}-{seed}.jsonl", "shuffle", f"seed={seed}"]
            assert main(ORDERING, words) == 0
    save_model(Path("base"))
    runs = {f"lr-{rate}": ("in.jsonl", f"learning_rate={rate}", "seed=10") for rate in ("0.001", "0.02")}
    runs |= {f"seed-{seed}": ("in.jsonl", "learning_rate=0.001", f"seed={seed}") for seed in "12"}
    runs |= {f"{r}/{seed}": (f"top-{r}-{seed}.jsonl", f"seed={seed}") for r in ("0.5", "0.75") for seed in "12"}
    for name, (data, *keys) in runs.items():
        assert main(TRAINING, [data, "base", f"runs/{name}/model", "pretrain", *KEYS, *keys]) == 0
        assert result(f"runs/{name}/model", f"{name.replace('/', '-')}.yaml")
    yield folder
    os.chdir(before)


def result(model: str, path: str, *keys: str) -> str:
    words = [model, path, "perplexity", "data=in.jsonl", "max_length=16", "device=cpu", *keys]
    assert main(EVALUATION, words) == 0
    return path


def arms(*paths: str) -> dict[str, int]:
    """Arm -> number of seeds."""
    return {arm: len(seeds) for arm, seeds in read_results(paths)["in"].items()}


def test_two_learning_rates_under_one_name_are_two_arms(folder):
    assert arms("lr-0.001.yaml", "lr-0.02.yaml") == {
        "model (learning_rate=0.001)": 1,
        "model (learning_rate=0.02)": 1,
    }
    checkpoints = [
        result(f"runs/lr-{rate}/model/checkpoint-{step}", f"c{rate}-{step}.yaml")
        for rate, step in (("0.001", 2), ("0.02", 2), ("0.001", 4))
    ]
    assert arms(*checkpoints) == {
        "checkpoint-2 (learning_rate=0.001)": 1,
        "checkpoint-2 (learning_rate=0.02)": 1,
        "checkpoint-4": 1,
    }
    os.rename(manifest_path("runs/lr-0.02/model"), "aside")  # as of a run that is not at its end
    try:
        assert made_by("runs/lr-0.02/model/checkpoint-2")["learning_rate"] == 0.02
    finally:
        os.rename("aside", manifest_path("runs/lr-0.02/model"))


def test_two_seeds_are_one_arm_whatever_their_names(folder):
    assert arms("seed-1.yaml", "seed-2.yaml", "lr-0.001.yaml") == {"model": 3}
    shutil.copytree("runs/seed-2/model", "another-name")
    shutil.copy(manifest_path("runs/seed-2/model"), manifest_path("another-name"))
    assert arms("seed-1.yaml", result("another-name", "another.yaml")) == {"model": 2}


def test_seeds_of_a_chain_are_one_arm_and_two_ratios_are_two(folder):
    paths = [f"{r}-{seed}.yaml" for r in ("0.5", "0.75") for seed in "12"]
    found = arms(*paths)
    assert list(found.values()) == [2, 2]
    assert list(found) == ["model (data.data.r=0.5)", "model (data.data.r=0.75)"]
    assert set(arms("0.5-1.yaml", "seed-1.yaml").values()) == {1}


def test_spellings_of_one_path_are_one_run(folder, capsys):
    os.symlink("runs/seed-1/model", "link")
    spellings = ["./runs/seed-1/model", f"{folder}/runs/seed-1/model/", "runs/../link"]
    paths = [result(model, f"spelled-{number}.yaml") for number, model in enumerate(spellings)]
    shutil.copytree("runs/seed-1/model", "copied")  # without a manifest, but the same content
    capsys.readouterr()
    assert arms(*paths, "seed-1.yaml", result("copied", "copied.yaml")) == {"model": 1}
    assert "spelled-1.yaml is of the same model as spelled-0.yaml, and is not counted twice" in capsys.readouterr().out


def test_an_arm_that_the_call_names_holds_one_experiment(folder):
    paths = [result(f"runs/lr-{rate}/model", f"named-{rate}.yaml", "arm=mine") for rate in ("0.001", "0.02")]
    with pytest.raises(UserError, match=r"both of the arm 'mine'.*: learning_rate 0\.001 against 0\.02"):
        read_results(paths)
    paths = [result(f"runs/0.5/{seed}/model", f"named-{seed}.yaml", "arm=mine") for seed in "12"]
    assert arms(*paths) == {"mine": 2}


def without_new_fields(path: str) -> str:
    """As an older version wrote it, manifest and all."""
    old = f"old-{path}"
    content = yaml.safe_load(Path(path).read_text())
    for name in ("model_content", "made_by", "settings"):
        del content[name]
    Path(old).write_text(yaml.safe_dump(content, sort_keys=False))
    record = json.loads(manifest_path(path).read_text())
    manifest_path(old).write_text(json.dumps(record | {"output": fingerprint(old)}))
    return old


def test_results_of_an_older_version(folder, capsys):
    """What they do not tell is in their manifest and that of the model; where these are gone names count, as before."""
    old = [without_new_fields(f"lr-{rate}.yaml") for rate in ("0.001", "0.02")]
    assert list(arms(*old)) == ["model (learning_rate=0.001)", "model (learning_rate=0.02)"]
    assert arms(old[0], "lr-0.001.yaml") == {"model": 1}
    for path in old:
        os.remove(manifest_path(path))
    assert arms(old[0], "lr-0.001.yaml") == {"model": 1}
    assert arms(*old) == {"model": 2}


def test_what_does_not_change_a_model_is_left_out(tmp_path, monkeypatch):
    """Held-out data and where it ran; the data that it was trained on has been changed since."""
    monkeypatch.chdir(tmp_path)
    for name in ("in.jsonl", "heldout.jsonl", "base"):
        Path(name).write_text(f'{{"text": "{name}"}}')
    declare(Path("in.jsonl"), stage="data_ordering", config={"layers": 3, "seed": 1})
    Path("trained").mkdir()
    config = {"learning_rate": 0.1, "seed": 3, "device": "cpu", "heldout_data": "heldout.jsonl"}
    inputs = {"data": ["in.jsonl"], "model": "base", "heldout_data": ["heldout.jsonl"]}
    declare(Path("trained"), stage="model_train", config=config, **inputs)
    base = fingerprint("base")["xxh3"]
    known = {"method": "fake", "learning_rate": 0.1, "model": f"content {base}"}
    assert made_by("trained") == known | {"data.method": "fake", "data.layers": 3}
    before = fingerprint("in.jsonl")["xxh3"]
    Path("in.jsonl").write_text('{"text": "other"}')
    declare(Path("in.jsonl"), stage="data_ordering", config={"layers": 9})
    assert made_by("trained") == known | {"data": f"content {before}"}
    assert made_by("base") == made_by("nowhere") == {}


def test_what_differs_between_two_models():
    one = {"method": "pretrain", "lr": 1, "data.method": "top-r", "data.r": 0.5, "data.data": "content a"}
    assert changes(one, one | {"later_key": 3}) == []
    assert changes(one, one | {"lr": 2, "data.data": "content b"}) == ["lr", "data.data"]
    assert changes(one, {"method": "pretrain", "lr": 1, "data": "content a"}) == ["data", "data.data", "data.method"]


def test_arms_that_differ_in_more_than_is_shown_stay_apart(tmp_path):
    """Four keys differ, three are shown; contents are shown by their first letters."""
    made = [dict(zip("abcd", values, strict=True)) for values in ("1111", "1112", "2222", "2111")]
    made += [{"a": "x", "data": f"content 0123456789abc{end}"} for end in "de"]
    paths = [
        write(
            tmp_path, f"r{number}", "m/model", facts={"made_by": how, "model_content": str(number)}, t=outcome(coin(0))
        )
        for number, how in enumerate(made)
    ]
    assert [len(seeds) for seeds in read_results(paths)["t"].values()] == [1] * 6


CALL = {"add_bos_token": True, "max_length": None, "positions": 64, "dtype": "float32"}


@pytest.mark.parametrize("changes, message", [
    ({"add_bos_token": False}, "add_bos_token True against False"),
    ({"max_length": 8, "positions": 8}, "max_length 64 against 8"),
    ({"max_length": 64}, None),
    ({"positions": 128}, "note: positions differs: 64 (a); 128 (b)"),
    ({"dtype": "bfloat16"}, "note: dtype differs: float32 (a); bfloat16 (b)"),
    ({"apply_chat_template": True}, None),  # an older one does not tell
])  # fmt: skip
def test_settings_of_the_calls(tmp_path, capsys, changes, message):
    paths = [
        write(tmp_path, name, f"m/{name}", facts={"settings": settings}, t=outcome(coin(0)))
        for name, settings in (("a", CALL), ("b", CALL | changes))
    ]
    if message and "against" in message:
        with pytest.raises(UserError, match=f"cannot be compared on t: {re.escape(message)}"):
            read_results(paths)
    else:
        compare(paths, output=str(tmp_path / "out"))
        shown = capsys.readouterr().out
        assert (message in shown) if message else ("note" not in shown)


def test_cut_prompts_are_told(tmp_path, capsys):
    paths = [write(tmp_path, name, f"m/{name}", t=outcome(coin(0), cut_prompts=count)) for name, count in
             (("a", 0), ("b", 12))]  # fmt: skip
    compare(paths, output=str(tmp_path / "out"))
    assert "note: t, b: 12 of 400 prompts were cut" in capsys.readouterr().out
