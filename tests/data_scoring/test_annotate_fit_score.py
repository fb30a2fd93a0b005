"""The five steps of lqs from end to end: proxy sample, data scorer, resuming, sharing scorers, chunks, processes."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY
from data_common.models.samples import load_samples
from data_common.models.tokens import encode
from data_scoring.engines.influence import data_scorer
from data_scoring.entry import STAGE
from tests.models import byte_tokenizer, save_model

ROWS = 60
KEYS = (
    "scorer_model=null",
    "steps=4",
    "interval=2",
    "batch_size=4",
    "max_length=32",
    "scorer_epochs=2",
    "scorer_batch_size=8",
)


def write_rows(path, rows, seed=0):
    random = np.random.default_rng(seed)
    words = ["alpha", "beta", "gamma", "delta", "öl", "eta"]
    texts = [" ".join(random.choice(words, random.integers(1, 9))) + "." for _ in range(rows)]
    path.write_text("".join(json.dumps({"id": f"r{n}", "text": t}) + "\n" for n, t in enumerate(texts)))
    return texts


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Corpus, target and annotator."""
    folder = tmp_path_factory.mktemp("steps")
    write_rows(folder / "in.jsonl", ROWS)
    write_rows(folder / "target.jsonl", 5, seed=1)
    save_model(folder / "model")
    return folder


def call(shared, out, *keys, method="lqs", source="in.jsonl"):
    fixed = [f"annotator_model={shared / 'model'}", f"target_data={shared / 'target.jsonl'}", *KEYS]
    given = {key.split("=")[0] for key in keys}
    fixed = [key for key in fixed if key.split("=")[0] not in given]
    return main(STAGE, [str(shared / source), str(out), method, *fixed, *keys])


def scores_of(path):
    return np.array([json.loads(line)["score"] for line in path.read_text().split("\n")[:-1]])


def one_by_one(folder, texts, max_length=32):
    """Predictions of a saved scorer, one unpadded text at a time, by the definition."""
    scorer, tokenizer, _ = data_scorer.load(str(folder))
    with torch.no_grad():
        hidden = [
            scorer.backbone(input_ids=torch.tensor([ids[:max_length]])).last_hidden_state[0].mean(0)
            for ids in encode(texts, tokenizer)
        ]
        return np.array([scorer.head(state).item() for state in hidden])


@pytest.fixture(scope="module")
def whole(shared, tmp_path_factory):
    """An uninterrupted run with a proxy sample of 40 of the 60 rows."""
    folder = tmp_path_factory.mktemp("whole")
    assert call(shared, folder / "out.jsonl", "proxy_size=40") == 0
    return folder


def test_every_row_gets_the_prediction_of_the_scorer_that_was_fitted_to_the_proxy_rows(shared, whole):
    texts = [json.loads(line)["text"] for line in (shared / "in.jsonl").read_text().split("\n")[:-1]]
    work = whole / "out.jsonl.work"
    np.testing.assert_allclose(scores_of(whole / "out.jsonl"), one_by_one(work / "fit/scorer", texts), atol=1e-5)
    rows = np.load(work / "proxy/rows.npy")
    assert len(rows) == 40 == len(set(rows)) and np.array_equal(rows, np.sort(rows)) and rows.max() < ROWS
    gamma = np.load(work / "annotate/gamma.npy")
    fitted = json.loads((work / "fit/fit.json").read_text())
    assert fitted["train_documents"] + fitted["validation_documents"] == len(gamma) == 40
    assert fitted["mean"] == pytest.approx(gamma.mean()) and fitted["standard_deviation"] == pytest.approx(gamma.std())
    facts = json.loads((whole / "out.jsonl.manifest.json").read_text())
    assert facts["facts"]["spearman"] == fitted["spearman"] and facts["directions"] == {"score": "higher"}
    assert (
        facts["inputs"]["annotator_model"]["path"] == str(shared / "model") and facts["inputs"]["target_data"]["xxh3"]
    )
    assert f"spearman: {fitted['spearman']}" in (work / "report.txt").read_text()
    assert (work / "scores.png").exists() and (work / "fit/fit.png").exists()
    assert not (work / "annotate/states").exists()


def test_proxy_rows_are_drawn_uniformly(shared, tmp_path):
    """Each of 60 rows in 1/3 of the draws: 60 seeds of 20 rows give counts of 20 +- 3.7."""
    counts = np.zeros(ROWS)
    for seed in range(60):
        work = tmp_path / "work"
        assert call(shared, tmp_path / "o", f"work_dir={work}", "proxy_size=20", f"seed={seed}", "step=proxy") == 0
        counts[np.load(work / "proxy/rows.npy")] += 1
    assert counts.sum() == 60 * 20 and np.abs(counts - 20).max() < 5 * 3.66
    assert ((counts - 20) ** 2 / 20).sum() * 1.5 < 100  # chi-square of 59 degrees, corrected for draws without return


def test_a_corpus_not_larger_than_the_proxy_gets_its_annotation(shared, tmp_path, capsys):
    assert call(shared, tmp_path / "out.jsonl", f"proxy_size={ROWS}") == 0
    assert "their annotation is the score" in capsys.readouterr().out
    work = tmp_path / "out.jsonl.work"
    np.testing.assert_array_equal(scores_of(tmp_path / "out.jsonl"), np.load(work / "annotate/gamma.npy"))
    assert not (work / "fit").exists() and not (work / "score").exists()
    assert not (work / "annotate/states").exists()
    assert call(shared, tmp_path / "two.jsonl", f"proxy_size={ROWS}", "step=fit") == 0  # there is nothing to fit
    assert not (tmp_path / "two.jsonl").exists()


def test_a_rerun_skips_what_is_done_and_a_changed_key_makes_anew_what_depends_on_it(shared, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    assert call(shared, out, "proxy_size=40") == 0
    before = out.read_bytes()
    out.unlink()
    capsys.readouterr()
    assert call(shared, out, "proxy_size=40", "batch_tokens=64") == 0  # memory against speed, not the scores
    said = capsys.readouterr().out
    assert all(f"{step}: up to date" in said for step in ("tokenize", "proxy", "annotate", "fit", "score"))
    assert out.read_bytes() == before
    assert call(shared, out, "proxy_size=40", "learning_rate=0.009") == 0
    said = capsys.readouterr().out
    assert "tokenize: up to date" in said and "proxy: up to date" in said
    assert "annotate: made again, learning_rate was 0.008, is 0.009" in said
    assert "fit: made again, since annotate changed" in said and "score: made again" in said
    assert out.read_bytes() != before


def test_steps_can_be_called_alone(shared, whole, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    for step, artefact in (
        ("tokenize", "tokenize/corpus/tokens.bin"),
        ("proxy", "proxy/rows.npy"),
        ("annotate", "annotate/gamma.npy"),
        ("fit", "fit/scorer/data_scorer.json"),
    ):
        assert not (tmp_path / "out.jsonl.work" / artefact).exists()
        assert call(shared, out, "proxy_size=40", f"step={step}") == 0
        assert (tmp_path / "out.jsonl.work" / artefact).exists() and not out.exists()
        assert "stopped before there are scores" in capsys.readouterr().out
    assert call(shared, out, "proxy_size=40", "step=score") == 0
    assert out.read_bytes() == (whole / "out.jsonl").read_bytes()


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("after", [1, 4, 7, 10, 13, 15, 19, 24])
def test_a_killed_run_gives_the_same_bytes_when_called_again(after, shared, whole, tmp_path, monkeypatch):
    """Ended after some of the files that are put in their places one after the other."""
    replaced, replace = [], os.replace

    def counting(*paths):
        replace(*paths)
        replaced.append(paths)
        if len(replaced) == after:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", counting)
        with pytest.raises(Killed):
            call(shared, tmp_path / "out.jsonl", "proxy_size=40")
    assert call(shared, tmp_path / "out.jsonl", "proxy_size=40") == 0
    assert (tmp_path / "out.jsonl").read_bytes() == (whole / "out.jsonl").read_bytes()
    work = tmp_path / "out.jsonl.work"
    assert {path.name for path in work.rglob("*")}.isdisjoint({"states", "checkpoints", ".trash"})


def test_a_data_scorer_is_shared_and_needs_no_annotator(shared, whole, tmp_path):
    texts = write_rows(tmp_path / "other.jsonl", 25, seed=2)
    checkpoint = whole / "out.jsonl.work/fit/scorer"
    words = [str(tmp_path / "other.jsonl"), str(tmp_path / "out.jsonl"), "pds", str(tmp_path / "none.yaml")]
    (tmp_path / "none.yaml").write_text("")
    assert main(STAGE, [*words, f"scorer_checkpoint={checkpoint}"]) == 0
    np.testing.assert_allclose(scores_of(tmp_path / "out.jsonl"), one_by_one(checkpoint, texts), atol=1e-5)
    facts = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())["facts"]
    assert facts["data_scorer"]["method"] == "lqs" and facts["data_scorer"]["spearman"] is not None
    assert {path.name for path in (tmp_path / "out.jsonl.work").iterdir() if path.is_dir()} == {"tokenize", "score"}


def test_chunks_for_a_given_scorer_are_as_long_as_what_it_reads(shared, whole, tmp_path):
    checkpoint = whole / "out.jsonl.work/fit/scorer"
    keys = ["granularity=chunk", f"scorer_checkpoint={checkpoint}", "max_length=1024", "on_short=drop"]
    assert main(STAGE, [str(shared / "in.jsonl"), str(tmp_path / "out.jsonl"), "lqs", *keys]) == 0
    texts = [json.loads(line)["text"] for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]]
    assert 24 < max(map(len, encode(texts, byte_tokenizer()))) <= 32
    np.testing.assert_allclose(scores_of(tmp_path / "out.jsonl"), one_by_one(checkpoint, texts), atol=1e-5)


def test_another_length_for_the_scorer_has_samples_of_its_own(shared, tmp_path):
    texts = [json.loads(line)["text"] for line in (shared / "in.jsonl").read_text().split("\n")[:-1]]
    assert call(shared, tmp_path / "out.jsonl", "proxy_size=40", "scorer_max_length=12") == 0
    work = tmp_path / "out.jsonl.work"
    np.testing.assert_allclose(scores_of(tmp_path / "out.jsonl"), one_by_one(work / "fit/scorer", texts, 12), atol=1e-5)
    assert load_samples(work / "tokenize/scorer", byte_tokenizer()).lengths.max() == 12


def test_long_rows_mean_weighs_the_predictions_of_all_chunks(shared, tmp_path):
    assert call(shared, tmp_path / "out.jsonl", "proxy_size=40", "long_rows=mean", "max_length=16") == 0
    work = tmp_path / "out.jsonl.work"
    samples = load_samples(work / "tokenize/corpus", byte_tokenizer())
    scorer, _, facts = data_scorer.load(str(work / "fit/scorer"))
    assert facts["long_rows"] == "mean"
    usable = np.flatnonzero(samples.lengths > 1)
    with torch.no_grad():
        documents = [torch.tensor(samples[n].astype(np.int64))[None] for n in usable]
        predicted = np.array([scorer(ids, torch.ones_like(ids))["logits"].item() for ids in documents])
    for row, score in enumerate(scores_of(tmp_path / "out.jsonl")):
        mine = samples.rows[usable] == row
        assert score == pytest.approx(np.average(predicted[mine], weights=samples.lengths[usable][mine] - 1), abs=1e-5)


def test_chunks_are_scored_as_the_rows_they_are(shared, tmp_path):
    out = tmp_path / "chunks.jsonl"
    assert call(shared, out, "granularity=chunk", "on_short=drop") == 0
    chunks = [json.loads(line) for line in out.read_text().split("\n")[:-1]]
    assert [list(chunk) for chunk in chunks] == [["id", "source_ids", "text", "score"]] * len(chunks)
    assert len(chunks) > ROWS / 2 and chunks[0]["source_ids"][0] == "r0"
    assert {source for chunk in chunks for source in chunk["source_ids"]} == {f"r{n}" for n in range(ROWS)}
    plain = [{"id": chunk["id"], "text": chunk["text"]} for chunk in chunks]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in plain))
    words = [f"annotator_model={shared / 'model'}", f"target_data={shared / 'target.jsonl'}", *KEYS]
    words.append("special_tokens_in_text=tokens")  # no manifest says that EOS joins documents
    assert main(STAGE, [str(tmp_path / "rows.jsonl"), str(tmp_path / "again.jsonl"), "lqs", *words]) == 0
    np.testing.assert_array_equal(scores_of(tmp_path / "again.jsonl"), scores_of(out))
    manifest = json.loads((tmp_path / "chunks.jsonl.manifest.json").read_text())
    assert (manifest["rows_in"], manifest["rows_out"]) == (ROWS, len(chunks))


def test_two_processes_agree_with_one(shared, tmp_path):
    """Annotation to float tolerance; the predictions of one data scorer byte for byte."""
    write_rows(tmp_path / "many.jsonl", 2500, seed=3)
    words = [str(tmp_path / "many.jsonl"), str(tmp_path / "two.jsonl"), "lqs", f"annotator_model={shared / 'model'}"]
    words += [f"target_data={shared / 'target.jsonl'}", *KEYS, "proxy_size=40"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "NPROC": "2"}
    command = [sys.executable, "-m", "data_scoring.entry", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("annotate: done") == 1  # one process speaks
    two = tmp_path / "two.jsonl.work"
    assert len(list((two / "score").glob("part-*"))) == 2

    one = tmp_path / "one.jsonl"
    assert main(STAGE, [words[0], str(one), *words[2:], "step=annotate"]) == 0
    gammas = [np.load(work / "annotate/gamma.npy") for work in (two, tmp_path / "one.jsonl.work")]
    np.testing.assert_allclose(*gammas, rtol=1e-4, atol=1e-5 * np.abs(gammas[0]).max())
    assert main(STAGE, [words[0], str(one), "lqs", f"scorer_checkpoint={two / 'fit/scorer'}"]) == 0
    assert one.read_bytes() == (tmp_path / "two.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["proxy_size=0"], "proxy_size: 0 is not valid"),
        (["proxy_size=10"], "proxy_size: 10 rows are too few to fit a data scorer"),
        (["scorer_checkpoint=MODEL"], "is no data scorer: data_scorer.json is missing"),
        (["annotator_model=null"], "annotator_model is not set"),
        (["proxy_size=40", "scorer_max_length=65"], "scorer_max_length=65 is more than the 64 positions"),
        (["proxy_size=40", "scorer_model=nowhere/at/all"], "no model folder"),
        (["report_to=quill"], "report_to: quill is not installed or not known"),
        (["work_dir=FILE"], "cannot be used"),
        (["work_dir=FOREIGN"], "holds files that no run made"),
    ],
)
def test_bad_calls_say_what_to_do(keys, message, shared, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "foreign/tokenize").mkdir(parents=True)
    (tmp_path / "foreign/tokenize/precious.txt").write_text("mine")
    places = {"MODEL": shared / "model", "FILE": tmp_path / "file", "FOREIGN": tmp_path / "foreign"}
    for word, path in places.items():
        keys = [key.replace(word, str(path)) for key in keys]
    assert call(shared, tmp_path / "out.jsonl", *keys) == 2
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert error.startswith("error: ") and message in error
    assert not (tmp_path / "out.jsonl.work/annotate/gamma.npy").exists()  # known before the long work
    assert not (tmp_path / "out.jsonl").exists() and (tmp_path / "foreign/tokenize/precious.txt").exists()


def test_trackers_see_annotation_and_fit(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert call(shared, tmp_path / "out.jsonl", "proxy_size=40", "report_to=wandb", "project=tests") == 0
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 2
