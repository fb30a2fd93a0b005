"""LQS against brute force in float64: every gradient by plain autograd, the formulas written out."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from common.cli import main
from common.tokens import TokenStore, encode
from data_scoring.entry import STAGE
from data_scoring.lqs.method import Scorer
from data_scoring.pds.method import Scorer as PdsScorer
from data_scoring.per_sample_gradients import PerSampleGradients, sample_losses
from data_scoring.trajectory import StoredStates, Trajectory, copy, exact_product, finite_difference_product
from tests.models import CONFIGURATIONS, VOCABULARY, byte_tokenizer, random_model, save_model

ROWS, ETA = 9, 0.05


def store(seed: int, rows: int, longest: int = 12) -> TokenStore:
    random = np.random.default_rng(seed)
    lengths = random.integers(2, longest + 1, rows)
    return TokenStore(random.integers(0, VOCABULARY, lengths.sum()), np.cumsum(lengths) - lengths, lengths)


def flat_gradient(model, loss, create_graph=False):
    return torch.cat(
        [g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()), create_graph=create_graph)]
    )


def one_loss(model, document):
    """Mean token loss of one unpadded document, by the definition."""
    ids = torch.from_numpy(np.asarray(document, np.int64))[None]
    log_probabilities = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    return -log_probabilities[torch.arange(ids.shape[1] - 1), ids[0, 1:]].mean()


def mean_loss(model, documents):
    return sum(one_loss(model, document) for document in documents) / len(documents)


def set_flat(model, vector):
    torch.nn.utils.vector_to_parameters(vector.clone(), model.parameters())


def brute_force(model, corpus, target, steps, batch_size, interval, lag):
    """Equation by equation: all states, all co-states, all per-sample gradients; returns (LQS, PDS)."""

    def batch(t):
        return [corpus[(t * batch_size + i) % len(corpus)] for i in range(batch_size)]

    theta = [torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()]
    for t in range(steps):
        set_flat(model, theta[t])
        theta.append(theta[t] - ETA * flat_gradient(model, mean_loss(model, batch(t))))
    co_state = {}
    set_flat(model, theta[steps])
    co_state[steps] = flat_gradient(model, mean_loss(model, list(target)))
    for t in range(steps - 1, 0, -1):
        set_flat(model, theta[t])
        slope = flat_gradient(model, mean_loss(model, batch(t)), create_graph=True)
        product = flat_gradient(model, slope @ co_state[t + 1])
        co_state[t] = co_state[t + 1] + flat_gradient(model, mean_loss(model, list(target))) - ETA * product
    lqs, pds = np.zeros(len(corpus)), np.zeros(len(corpus))
    for t in range(0, steps, interval):
        if t + lag > steps:
            continue
        for n, document in enumerate(corpus):
            set_flat(model, theta[t])
            dot = co_state[t + 1] @ flat_gradient(model, one_loss(model, document))
            set_flat(model, theta[t + lag])
            lqs[n] += (dot / flat_gradient(model, one_loss(model, document)).norm()).item()
            pds[n] += dot.item()
    set_flat(model, theta[0])
    return lqs, pds


COMMON = {"annotator_model": "unused", "target_data": "unused", "learning_rate": ETA, "batch_size": 2}


def scorer(steps=4, interval=1, batch_tokens=10**6, **keys):
    return Scorer(**COMMON, steps=steps, interval=interval, batch_tokens=batch_tokens, **keys)


def pds_scorer(steps=4, interval=1, batch_tokens=10**6, **keys):
    return PdsScorer(**COMMON, steps=steps, interval=interval, batch_tokens=batch_tokens, **keys)


@pytest.fixture
def eager(monkeypatch):
    """Brute force differentiates twice, which fused attention cannot."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        yield


@pytest.mark.parametrize("architecture", CONFIGURATIONS)
def test_dots_and_norms_equal_autograd_sample_by_sample(architecture):
    model, documents = random_model(architecture), list(store(1, 7))
    direction = [torch.randn_like(p) for p in model.parameters()]
    flat = torch.cat([d.flatten() for d in direction])
    with PerSampleGradients(model, documents[:2]) as reader:
        dots, norms = reader.dots_and_norms(documents, direction)
    gradients = [flat_gradient(model, one_loss(model, document)) for document in documents]
    np.testing.assert_allclose(dots, [(g @ flat).item() for g in gradients], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(norms, [g.norm().item() for g in gradients], rtol=1e-9)


class Wrapped(torch.nn.Module):
    """Uses two parameters behind the back of any hook: a scale, and the input embedding as the output layer."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.holder = inner, torch.nn.Linear(1, 1, bias=False).double()

    def forward(self, **inputs):
        hidden = self.inner.model(**inputs).last_hidden_state
        logits = torch.nn.functional.linear(hidden, self.inner.model.embed_tokens.weight)
        return SimpleNamespace(logits=logits * (1 + self.holder.weight.sum()))


def test_parameters_that_no_rule_reaches_are_exact_all_the_same(capsys):
    model, documents = Wrapped(random_model("llama-untied")), list(store(1, 5))
    direction = [torch.randn_like(p) for p in model.parameters()]
    with PerSampleGradients(model, documents[:2]) as reader:
        dots, norms = reader.dots_and_norms(documents, direction)
    slow = capsys.readouterr().out
    assert "holder.weight" in slow and "embed_tokens.weight" in slow and "q_proj" not in slow
    flat = torch.cat([d.flatten() for d in direction])
    for number, document in enumerate(documents):
        parts = torch.autograd.grad(one_loss(model, document), list(model.parameters()), materialize_grads=True)
        gradient = torch.cat([part.flatten() for part in parts])
        assert dots[number] == pytest.approx((gradient @ flat).item(), rel=1e-9)
        assert norms[number] == pytest.approx(gradient.norm().item(), rel=1e-9)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_a_parameter_that_is_never_used_changes_no_score():
    corpus, target = store(2, ROWS), store(3, 4)
    plain = scorer().gamma(random_model("gpt2"), corpus, target)
    model = random_model("gpt2")
    model.unused = torch.nn.Linear(3, 3).double()
    np.testing.assert_allclose(scorer().gamma(model, corpus, target), plain, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("architecture", CONFIGURATIONS)
def test_known_architectures_need_no_slow_way(architecture, dtype, capsys):
    assert not PerSampleGradients(random_model(architecture, dtype), list(store(1, 2))).one_by_one
    assert not capsys.readouterr().out


@pytest.mark.parametrize("architecture", ["mistral-tied", "gpt2"])
@pytest.mark.parametrize(("interval", "lag"), [(1, 1), (2, 2), (2, 1), (1, 3)])
def test_lqs_equals_brute_force(architecture, interval, lag, eager):
    model, corpus, target = random_model(architecture), store(2, ROWS), store(3, 4)
    expected, _ = brute_force(model, corpus, target, 4, 2, interval, lag)
    actual = scorer(interval=interval, lag=lag).gamma(model, corpus, target)
    np.testing.assert_allclose(actual, expected, rtol=1e-8)


def test_lqs_is_the_same_for_sample_batches_of_1_and_8():
    corpus, target = store(2, 16), store(3, 4)
    one = scorer(batch_tokens=1).gamma(random_model("mistral-tied"), corpus, target)
    eight = scorer(batch_tokens=8 * 12).gamma(random_model("mistral-tied"), corpus, target)
    np.testing.assert_allclose(one, eight, rtol=1e-9)


def test_scores_move_with_their_rows(eager):
    """Beyond the rows of the training stream, permuting the corpus permutes the scores."""
    corpus, target = store(2, 16), store(3, 4)
    order = np.concatenate([np.arange(8), 8 + np.random.default_rng(0).permutation(8)])
    plain = scorer().gamma(random_model("mistral-tied"), corpus, target)
    permuted = scorer().gamma(random_model("mistral-tied"), corpus.take(order), target)
    np.testing.assert_allclose(permuted, plain[order], rtol=1e-9)


def test_co_states_are_the_derivative_of_the_area_under_the_target_loss(eager):
    """sum_t lambda_{t+1} . grad l_n = -(1/eta) d/dw sum_{t=1..T} J(theta_t), by central differences.

    On GPT-2: the norms of the Llama family compute in float32 even in a float64 model, too coarse for differences.
    """
    corpus, target, steps = store(2, ROWS), store(3, 4), 3
    plan = Trajectory(steps, ETA, 2, 10**6)
    pds = pds_scorer(steps).gamma(random_model("gpt2"), corpus, target)

    def area(sample, weight):
        model = random_model("gpt2")
        total = 0.0
        for t in range(steps):
            loss = mean_loss(model, plan.batch(corpus, t)) + weight * one_loss(model, corpus[sample])
            vector = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
            set_flat(model, vector - ETA * flat_gradient(model, loss))
            total += mean_loss(model, list(target)).item()
        return total

    for sample in (0, 5):
        slope = (area(sample, 1e-4) - area(sample, -1e-4)) / 2e-4
        assert pds[sample] == pytest.approx(-slope / ETA, rel=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 10])
def test_pds_with_states_trained_again_equals_all_states_in_memory(steps, eager):
    corpus, target = store(2, ROWS), store(3, 4)
    _, expected = brute_force(random_model("gpt2"), corpus, target, steps, 2, 1, 0)
    np.testing.assert_allclose(pds_scorer(steps).gamma(random_model("gpt2"), corpus, target), expected, rtol=1e-8)


def test_stored_and_held_states_grow_as_the_square_root_of_the_steps(monkeypatch):
    """25 steps: 5 states on disk, and at most 5 trained again at a time."""
    saved, held = [], []
    save, segment = StoredStates.save, Trajectory._segment
    monkeypatch.setattr(StoredStates, "save", lambda *words: saved.append(words[1]) or save(*words))

    def counting(*arguments):
        result = segment(*arguments)
        held.append(len(result))
        return result

    monkeypatch.setattr(Trajectory, "_segment", counting)
    pds_scorer(25, interval=5).gamma(random_model("mistral-tied"), store(2, ROWS), store(3, 4))
    assert saved == [0, 5, 10, 15, 20] and held == [5, 5, 5, 5, 5]


def test_finite_difference_is_near_the_exact_hessian_and_none_is_not():
    corpus, target = store(2, ROWS), store(3, 4)
    exact, near, without = (
        scorer(10, hessian=hessian).gamma(random_model("gpt2"), corpus, target)
        for hessian in ("exact", "finite-difference", "none")
    )
    scale = np.abs(exact).max()
    assert np.abs(near - exact).max() < 1e-4 * scale < 1e-2 * scale < np.abs(without - exact).max()


def test_hessian_is_symmetric_and_micro_batches_do_not_matter():
    model, documents = random_model("gpt2"), list(store(4, 6))
    u, v = ([torch.randn_like(p) for p in model.parameters()] for _ in range(2))

    def inner(a, b):
        return sum((x * y).sum() for x, y in zip(a, b, strict=True)).item()

    whole = exact_product(model, documents, v, 10**6)
    assert inner(u, whole) == pytest.approx(inner(v, exact_product(model, documents, u, 10**6)), rel=1e-11)
    assert inner(u, whole) == pytest.approx(inner(u, exact_product(model, documents, v, 1)), rel=1e-11)
    before = copy(model)
    near = finite_difference_product(model, documents, v, 10**6)
    assert inner(u, near) == pytest.approx(inner(u, whole), rel=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(before, copy(model), strict=True))  # the model is put back exactly


def test_padding_changes_no_loss():
    model, documents = random_model("gpt2"), list(store(5, 6))
    batched = sample_losses(model, documents).detach().numpy()
    np.testing.assert_allclose(batched, [one_loss(model, d).item() for d in documents], rtol=1e-12)


# The stage


@pytest.fixture
def files(tmp_path):
    texts = ["alpha beta", "", "gamma " * 30, "delta", "epsilon zeta"]
    lines = [json.dumps({"id": i, "text": t, "big": 10**25}, ensure_ascii=False) for i, t in enumerate(texts)]
    (tmp_path / "in.jsonl").write_text("\r\n".join(lines))
    (tmp_path / "target.jsonl").write_text('{"text": "beta gamma"}\n{"text": "delta"}\n')
    return tmp_path, save_model(tmp_path / "model")


def call(folder, model, *extra):
    words = [str(folder / "in.jsonl"), str(folder / "out.jsonl"), "lqs", f"annotator_model={model}"]
    fixed = [f"target_data={folder / 'target.jsonl'}", "steps=4", "interval=2", "batch_size=2", "max_length=24"]
    return main(STAGE, [*words, *fixed, *extra])


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
    gamma = Scorer(
        annotator_model=model, target_data="unused", steps=4, interval=2, batch_size=2, max_length=length
    ).gamma(network, corpus, target)
    for row, score in enumerate(scores):
        mine = [number for number, (owner, _) in enumerate(chunks) if owner == row]
        assert score == pytest.approx(np.average(gamma[mine], weights=lengths[mine] - 1), rel=1e-9)


def test_overwrite_replaces_the_value_in_place(files):
    folder, model = files
    (folder / "in.jsonl").write_text('{"score" : "old", "text": "abc \\u00e9", "x": {"score": 1}}\n{"text": "def"}\n')
    assert call(folder, model, "overwrite=true") == 0
    first, second = (folder / "out.jsonl").read_text().split("\n")[:-1]
    score = json.loads(first)["score"]
    assert first == '{"score" : ' + repr(score) + ', "text": "abc \\u00e9", "x": {"score": 1}}'
    assert second.startswith('{"text": "def", "score": ')
