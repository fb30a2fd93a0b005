"""Batches that are halved, requests that processes share, and runs that are resumed."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY
from data_common.messages.errors import UserError
from data_common.parallel import distributed
from model_eval.entry import STAGE
from model_eval.lm_evaluation_harness import language_model
from model_eval.lm_evaluation_harness.harness import RAW, SAMPLES
from model_eval.lm_evaluation_harness.language_model import load_language_model
from tests.architectures import plain_model
from tests.model_eval.direct import benchmarks, perplexity
from tests.model_eval.test_lm_evaluation_harness import items, write_task
from tests.models import byte_tokenizer, save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save_model(tmp_path_factory.mktemp("model"))


def loaded(model, batch_size):
    return load_language_model(model, torch.device("cpu"), torch.float32, True, None, batch_size)


def requests(count=9):
    from lm_eval.api.instance import Instance

    pairs = [(f"{'word ' * (i % 4)}question {i}", " an answer") for i in range(count)]
    return [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]


def failing_above(network, size):
    """As if memory sufficed for so many sequences only."""
    call = network._model_call
    sizes = []

    def limited(inputs, **options):
        sizes.append(len(inputs))
        if len(inputs) > size:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        return call(inputs, **options)

    network._model_call = limited
    return sizes


def test_batches_are_halved_until_they_fit(model, capsys):
    expected = loaded(model, 1).loglikelihood(requests())
    network = loaded(model, "auto")
    sizes = failing_above(network, 3)
    found = network.loglikelihood(requests())
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], rel=1e-5)
    assert network.batch_size_per_gpu == 2 and max(sizes[3:]) == 2
    shown = capsys.readouterr().out
    assert [f"batch_size {size}" in shown for size in (8, 4, 2, 1)] == [True, True, True, False]


def test_a_batch_size_that_was_asked_for_stays(model):
    network = loaded(model, 8)
    failing_above(network, 3)
    with pytest.raises(RuntimeError, match="can't allocate"):
        network.loglikelihood(requests())


def test_other_errors_are_not_taken_for_lack_of_memory(model):
    network = loaded(model, "auto")

    def broken(inputs, **options):
        raise RuntimeError("shapes do not fit")

    network._model_call = broken
    with pytest.raises(RuntimeError, match="shapes"):
        network.loglikelihood(requests())
    assert network.batch_size_per_gpu == 16


def test_finished_tasks_are_skipped_and_raw_output_is_kept(tmp_path, model, monkeypatch, capsys):
    from model_eval.lm_evaluation_harness import harness

    monkeypatch.chdir(tmp_path)
    for name in ("first", "second"):
        write_task(tmp_path / "task", name)
    call = [model, "result.yaml", "lm_evaluation_harness", "tasks=task"]
    result_of = harness.task_result

    def killed_at_second(raw, name):
        if name == "second":
            raise KeyboardInterrupt
        return result_of(raw, name)

    monkeypatch.setattr(harness, "task_result", killed_at_second)
    assert main(STAGE, call) == 130
    folder = tmp_path / "result.yaml.work" / "second"
    assert json.loads((folder / RAW).read_text())["results"]["second"]["acc,none"] >= 0
    assert (folder / SAMPLES).stat().st_size and not (tmp_path / "result.yaml").exists()
    monkeypatch.setattr(harness, "task_result", result_of)
    capsys.readouterr()
    assert main(STAGE, call) == 0
    shown = capsys.readouterr().out
    assert "first: up to date" in shown and "second: done" in shown
    assert main(STAGE, [*call, "batch_size=3", "limit=4"]) == 0
    shown = capsys.readouterr().out
    assert "first: made again, limit was None, is 4" in shown
    assert yaml.safe_load((tmp_path / "result.yaml").read_text())["tasks"]["first"]["n"] == 4


@pytest.mark.parametrize("size", [2, 3, 12])
def test_processes_share_requests_and_documents(tmp_path, model, monkeypatch, size):
    """One process after the other, each as if it were one of several, answers only its own part."""
    (tmp_path / "held.jsonl").write_text("".join(json.dumps({"text": f"text {i} " * (i + 1)}) + "\n" for i in range(5)))
    whole = loaded(model, 4).loglikelihood(requests())
    alone = perplexity(model, data=str(tmp_path / "held.jsonl"), max_length=48)["held"]
    monkeypatch.setattr(language_model, "gathered", lambda found: found)
    monkeypatch.setattr(distributed, "size", lambda: size)
    monkeypatch.setattr(distributed, "wait", lambda: None)
    answers, nats = [], []
    monkeypatch.setattr(distributed, "add_up", lambda parts: nats.append(parts[0].copy()))
    for rank in range(size):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(distributed, "is_main", lambda: True)
        answers += loaded(model, 4).loglikelihood(requests())
        perplexity(model, data=str(tmp_path / "held.jsonl"), max_length=48)
    assert [value for value, _ in answers] == pytest.approx([value for value, _ in whole], rel=1e-5)
    assert all(np.count_nonzero(part) <= -(-5 // size) for part in nats)
    assert sum(nats).sum() / alone["tokens"] == pytest.approx(alone["loss"], rel=1e-6)


@pytest.mark.slow
def test_two_processes_give_the_same_numbers(tmp_path, model):
    write_task(tmp_path / "task", rows=items(7))
    generated = {
        "output_type": "generate_until",
        "doc_to_choice": None,
        "doc_to_target": "{{continuations[0]}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 3},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    write_task(tmp_path / "task", "generated", rows=items(3), **generated)
    (tmp_path / "held.jsonl").write_text("".join(json.dumps({"text": f"text {i} " * (i + 1)}) + "\n" for i in range(5)))
    results = {}
    for count in ("1", "2"):
        for method, key in (("lm_evaluation_harness", "tasks=task"), ("perplexity", "data=held.jsonl")):
            words = [model, f"{method}-{count}.yaml", method, key, "max_length=48"]
            environment = os.environ | {"NPROC": count, "DELT_PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
            call = ["bash", REPOSITORY / "model_eval" / "entry.sh", *words]
            done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            results[method, count] = yaml.safe_load((tmp_path / f"{method}-{count}.yaml").read_text())["tasks"]
    assert results["lm_evaluation_harness", "1"] == results["lm_evaluation_harness", "2"]
    one, two = (results["perplexity", count]["held"] for count in ("1", "2"))
    assert (one["items"], one["tokens"], one["n"]) == (two["items"], two["tokens"], two["n"])
    for name in ("value", "stderr", "loss", "perplexity"):
        assert one[name] == pytest.approx(two[name], rel=1e-6)


def test_an_answer_longer_than_the_model(tmp_path, model):
    write_task(tmp_path, rows=[items()[0] | {"continuations": ["a", "b", "word " * 20]}])
    with pytest.raises(UserError, match="an answer has 101 tokens, more than the 64 that the model reads"):
        benchmarks(model, tasks=str(tmp_path))


@pytest.mark.parametrize("wanted, found", [(None, 32), (64, 32), (63, 32), (48, 32), (47, None), (32, None)])
@pytest.mark.parametrize("key", ["max_gen_toks", "max_new_tokens"])
def test_answers_leave_room_for_the_prompt(tmp_path, model, capsys, wanted, found, key):
    """The model reads 64 tokens, the longest prompt has 17; lm-eval's own default is an answer of 256."""
    write_task(
        tmp_path,
        rows=[items()[0], items()[0] | {"passage": "sixteen characte"}],
        output_type="generate_until",
        doc_to_choice=None,
        doc_to_target="{{ passage }}",
        generation_kwargs={"until": ["\n"]} | ({key: wanted} if wanted else {}),
        metric_list=[{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    )
    result = benchmarks(model, tasks=str(tmp_path))["words"]
    told = "warning: words: answers have 32 tokens at most, half of what the model reads" in capsys.readouterr().out
    assert (result.get("max_gen_toks"), result["cut_prompts"], told) == (found, 0, bool(found))


def saved(folder, name, **keys):
    """A model of tests.architectures with the byte tokenizer, loaded as the harness loads it."""
    plain_model(name, torch.float32).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return load_language_model(str(folder), torch.device("cpu"), torch.float32, True, None, 4, **keys)


def test_models_are_read_as_everywhere_else(tmp_path, capsys):
    assert saved(tmp_path / "gemma2", "gemma2").model.config._attn_implementation == "eager"
    assert saved(tmp_path / "llama", "llama", attention="eager").model.config._attn_implementation == "eager"
    assert saved(tmp_path / "phi3", "phi3, longrope").batch_size_per_gpu == 1
    assert "batch_size=1 is taken" in capsys.readouterr().out
    with pytest.raises(UserError, match="sees later tokens"):
        saved(tmp_path / "bert", "bert, an encoder")


def test_a_token_without_an_embedding_is_named(tmp_path):
    network = saved(tmp_path, "llama")
    network.tokenizer.add_tokens(["[PAD]"])
    with pytest.raises(UserError, match=r"holds the token \[PAD\]"):
        network.tok_encode("a [PAD] b")
