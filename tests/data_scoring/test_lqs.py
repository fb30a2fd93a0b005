"""LQS against brute force in float64, and the stage `lqs` as a user calls it."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from data_common.calls.cli import main
from data_common.calls.config import build
from data_common.models.tokens import TokenStore, encode
from data_scoring.entry import STAGE
from data_scoring.lqs.method import Scorer
from tests.data_scoring.brute_force import ROWS, brute_force, gamma, scorer, store
from tests.models import byte_tokenizer, random_model, save_model


@pytest.mark.parametrize("architecture", ["mistral-tied", "gpt2"])
@pytest.mark.parametrize(("interval", "lag"), [(1, 1), (2, 2), (2, 1), (1, 3)])
def test_lqs_equals_brute_force(architecture, interval, lag, eager):
    model, corpus, target = random_model(architecture), store(2, ROWS), store(3, 4)
    expected, _ = brute_force(model, corpus, target, 4, 2, interval, lag)
    actual = gamma(scorer(interval=interval, lag=lag), model, corpus, target)
    np.testing.assert_allclose(actual, expected, rtol=1e-8)


def test_lqs_is_the_same_for_sample_batches_of_1_and_8():
    corpus, target = store(2, 16), store(3, 4)
    one = gamma(scorer(batch_tokens=1), random_model("mistral-tied"), corpus, target)
    eight = gamma(scorer(batch_tokens=8 * 12), random_model("mistral-tied"), corpus, target)
    np.testing.assert_allclose(one, eight, rtol=1e-9)


def test_scores_move_with_their_rows(eager):
    """Beyond the rows of the training stream, permuting the corpus permutes the scores."""
    corpus, target = store(2, 16), store(3, 4)
    order = np.concatenate([np.arange(8), 8 + np.random.default_rng(0).permutation(8)])
    plain = gamma(scorer(), random_model("mistral-tied"), corpus, target)
    permuted = gamma(scorer(), random_model("mistral-tied"), corpus.take(order), target)
    np.testing.assert_allclose(permuted, plain[order], rtol=1e-9)


# The stage


@pytest.fixture
def files(tmp_path):
    texts = ["alpha beta", "", "gamma " * 30, "delta", "epsilon zeta"]
    lines = [json.dumps({"id": i, "text": t, "big": 10**25}, ensure_ascii=False) for i, t in enumerate(texts)]
    (tmp_path / "in.jsonl").write_text("\r\n".join(lines))
    (tmp_path / "target.jsonl").write_text('{"text": "beta gamma"}\n{"text": "delta"}\n')
    return tmp_path, save_model(tmp_path / "model")


def call(folder, model, *extra):
    words = [str(folder / "in.jsonl"), str(folder / "out.jsonl"), "lqs"]
    fixed = [
        f"annotator_model={model}",
        f"target_data={folder / 'target.jsonl'}",
        "steps=4",
        "interval=2",
        "batch_size=2",
        "max_length=24",
    ]
    given = {key.split("=")[0] for key in extra}
    return main(STAGE, [*words, *(key for key in fixed if key.split("=")[0] not in given), *extra])


def test_stage_adds_one_field_and_nothing_else(files):
    folder, model = files
    assert call(folder, model, "on_short=worst") == 0
    before = (folder / "in.jsonl").read_text().split("\n")
    after = (folder / "out.jsonl").read_text().split("\n")[:-1]
    assert len(after) == 5
    scores = [json.loads(line)["score"] for line in after]
    for old, new in zip(before, after, strict=True):
        assert new.startswith(old.rstrip("\r")[:-1] + ', "score": ')
    assert scores[1] == min(scores) and len(set(scores)) == 4
    manifest = json.loads((folder / "out.jsonl.manifest.json").read_text())
    assert manifest["directions"] == {"score": "higher"} and manifest["short_rows"] == 1


def test_stage_is_the_same_in_float64_for_any_batch_tokens(files):
    folder, model = files
    results = []
    for tokens in (1, 4096):
        assert call(folder, model, "on_short=drop", "dtype=float64", f"batch_tokens={tokens}") == 0
        results.append([json.loads(line)["score"] for line in (folder / "out.jsonl").read_text().split("\n")[:-1]])
    assert len(results[0]) == 4
    np.testing.assert_allclose(results[0], results[1], rtol=1e-9)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([], "in.jsonl:2: no text to score"),
        (["text_field=body"], "in.jsonl:1: body is missing"),
        (["score_field=id"], "in.jsonl:1: id is there already"),
        (["score_field=id", "on_bad_row=drop"], "in.jsonl:1: id is there already"),
        (["on_short=drop", "target_field=body"], "target.jsonl:1: body is missing"),
        (["on_short=drop", "annotator_model=nowhere/at/all"], "no model folder"),
        (["on_short=drop", "max_length=100"], "64 positions"),
        (["on_short=drop", "lag=5"], "no step counts"),
        (["on_short=drop", "learning_rate=1e30"], "lower learning_rate"),
        (["on_short=drop", "device=quantum"], "device quantum"),
        (["on_short=drop", "annotator_mode=x"], "did you mean 'annotator_model'?"),
    ],
)
def test_stage_bad_calls_say_what_to_do(files, capsys, extra, message):
    folder, model = files
    assert call(folder, model, *extra) == 2
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert error.startswith("error: ") and message in error
    assert not (folder / "out.jsonl").exists()


def test_in_may_be_out(files):
    folder, model = files
    before = (folder / "in.jsonl").read_text().split("\n")
    words = [str(folder / "in.jsonl")] * 2 + ["lqs", f"annotator_model={model}", f"target_data={folder}/target.jsonl"]
    assert main(STAGE, [*words, "steps=2", "interval=1", "max_length=24", "on_short=drop"]) == 0
    after = (folder / "in.jsonl").read_text().split("\n")[:-1]
    assert [json.loads(line)["id"] for line in after] == [0, 2, 3, 4]
    assert all(new.startswith(before[i].rstrip("\r")[:-1]) for i, new in zip([0, 2, 3, 4], after, strict=True))


def test_unwritable_out_is_known_before_the_work(files, capsys):
    folder, _ = files
    (folder / "out.jsonl").mkdir()
    assert call(folder, "nowhere/at/all", "on_short=drop") == 2
    assert "it is a folder" in capsys.readouterr().err


def test_long_rows_mean_is_the_weighted_mean_of_the_chunks(files):
    """The same chunks as rows of their own: the same samples, so the same scores."""
    folder, model = files
    texts, length = ["x" * 61, "abc", "hello world, hello moon"], 16
    tokenizer = byte_tokenizer()
    (folder / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    assert call(folder, model, "long_rows=mean", f"max_length={length}", "dtype=float64") == 0
    scores = [json.loads(line)["score"] for line in (folder / "out.jsonl").read_text().split("\n")[:-1]]
    documents = encode(texts, tokenizer)
    chunks = [(row, ids[i : i + length]) for row, ids in enumerate(documents) for i in range(0, len(ids), length)]
    chunks = [(row, np.array(ids)) for row, ids in chunks if len(ids) > 1]
    lengths = np.array([len(ids) for _, ids in chunks])
    corpus = TokenStore(np.concatenate([ids for _, ids in chunks]), np.cumsum(lengths) - lengths, lengths)
    target = [np.array(ids[:length]) for ids in encode(["beta gamma", "delta"], tokenizer)]
    sizes = np.array([len(ids) for ids in target])
    target = TokenStore(np.concatenate(target), np.cumsum(sizes) - sizes, sizes)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64)
    keys = {"annotator_model": model, "target_data": "unused", "steps": 4, "interval": 2, "batch_size": 2}
    expected = gamma(build(Scorer, keys), network, corpus, target)
    for row, score in enumerate(scores):
        mine = [number for number, (owner, _) in enumerate(chunks) if owner == row]
        assert score == pytest.approx(np.average(expected[mine], weights=lengths[mine] - 1), rel=1e-9)


def test_overwrite_replaces_the_value_in_place(files):
    folder, model = files
    (folder / "in.jsonl").write_text('{"score" : "old", "text": "abc \\u00e9", "x": {"score": 1}}\n{"text": "def"}\n')
    assert call(folder, model, "overwrite=true") == 0
    first, second = (folder / "out.jsonl").read_text().split("\n")[:-1]
    score = json.loads(first)["score"]
    assert first == '{"score" : ' + repr(score) + ', "text": "abc \\u00e9", "x": {"score": 1}}'
    assert second.startswith('{"text": "def", "score": ')
