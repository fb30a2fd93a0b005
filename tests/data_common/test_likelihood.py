"""Token log-probabilities against transformers itself, one token position at a time; windows by brute force."""

import numpy as np
import pytest
import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, Gemma2Config

from data_common.messages.errors import UserError
from data_common.models import likelihood
from data_common.models.likelihood import TokenLogProbabilities, document_log_probabilities, plain_head
from data_common.models.tokens import TokenStore
from tests.models import CONFIGURATIONS, SHAPE, VOCABULARY, random_model


def store_of(lengths, seed=0):
    lengths = np.array(lengths)
    tokens = np.random.default_rng(seed).integers(0, VOCABULARY, lengths.sum())
    return TokenStore(tokens, np.cumsum(lengths) - lengths, lengths)


def measure(network, store, max_length=64, batch_tokens=100, stride=None):
    with tqdm(disable=True) as progress:
        return document_log_probabilities(network, store, max_length, batch_tokens, progress, stride)


def one_by_one(model, document, max_length, stride):
    """By the definition: the window that predicts a token is the first that reaches it."""
    found = []
    step = min(stride, max_length - 1)
    for position in range(1, len(document)):
        first = 0
        while position >= first + max_length:
            first += step
        with torch.no_grad():
            logits = model(torch.tensor(document[None, first:position])).logits[0, -1].double()
        found.append(torch.log_softmax(logits, 0)[document[position]].item())
    return found


@pytest.mark.parametrize("architecture", CONFIGURATIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_short_documents_equal_a_plain_call(architecture, dtype, tolerance, monkeypatch):
    monkeypatch.setitem(likelihood.LOGITS, "cpu", 5 * VOCABULARY)  # 5 positions at a time
    model, store = random_model(architecture, dtype), store_of([1, 7, 30, 2, 64, 7])
    network = TokenLogProbabilities(model)
    assert network.head is model.get_output_embeddings()
    expected = []
    for document in store:
        with torch.no_grad():
            logits = model(torch.tensor(document[None])).logits[0, :-1].double()
        expected += torch.log_softmax(logits, 1)[range(len(document) - 1), document[1:]].tolist()
    for batch_tokens in (1, 60, 10**6):
        found = measure(network, store, batch_tokens=batch_tokens)
        assert found.dtype == (np.float64 if dtype == torch.float64 else np.float32)
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("max_length", "stride"), [(8, 8), (8, 7), (8, 5), (8, 1), (2, 1), (2, 2), (40, 3)])
def test_windows_equal_a_brute_force_loop(max_length, stride):
    model, store = random_model("mistral-tied"), store_of([3, 1, 8, 9, 27, 2, 21])
    expected = [value for document in store for value in one_by_one(model, document, max_length, stride)]
    found = measure(TokenLogProbabilities(model), store, max_length, 30, stride)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    if stride == max_length:
        np.testing.assert_array_equal(found, measure(TokenLogProbabilities(model), store, max_length, 30))


def bounded_model():
    """Gemma 2 bounds its logits by tanh: no plain linear layer."""
    keys = SHAPE | {"head_dim": 4, "sliding_window": 64, "final_logit_softcapping": 3.0}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(Gemma2Config(**keys)).double().eval()
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(30)
    return model


def test_an_output_layer_that_is_not_plain_is_left_to_the_model(capsys):
    model, store = bounded_model(), store_of([20, 5])
    assert plain_head(model) is None
    network = TokenLogProbabilities(model)
    assert capsys.readouterr().out.count("Gemma2ForCausalLM") == 1
    expected = [value for document in store for value in one_by_one(model, document, 64, 64)]
    np.testing.assert_allclose(measure(network, store), expected, rtol=1e-6)  # its norms are float32 at heart
    assert not capsys.readouterr().out


def test_bfloat16_is_near():
    model, store = random_model("mistral-tied", torch.float32), store_of([40, 30])
    exact, rough = (measure(TokenLogProbabilities(model, autocast), store) for autocast in (None, torch.bfloat16))
    assert 1e-5 < np.abs(exact - rough).max() < 0.1


def test_what_is_no_number_is_an_error():
    model = random_model("mistral-tied")
    with torch.no_grad():
        model.get_input_embeddings().weight[7] = torch.nan
    with pytest.raises(UserError, match="no finite numbers"):
        measure(TokenLogProbabilities(model), store_of([9]))


def test_logits_of_the_whole_batch_never_exist(monkeypatch):
    monkeypatch.setitem(likelihood.LOGITS, "cpu", 10 * VOCABULARY)
    model, sizes = random_model("llama-untied"), []
    network = TokenLogProbabilities(model)
    model.lm_head.register_forward_hook(lambda module, args, output: sizes.append(output.numel()))
    measure(network, store_of([60] * 4), batch_tokens=240)
    assert max(sizes) == 10 * VOCABULARY and sum(sizes) == 4 * 59 * VOCABULARY
