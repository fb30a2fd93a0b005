"""How a model reads its input, tried on models that are right, broken, or odd."""

import numpy as np
import pytest
import torch
from tqdm import tqdm
from transformers import GPT2Config, LlamaConfig, PreTrainedModel

from data_common.messages.errors import UserError
from data_common.models import settings
from data_common.models.likelihood import TokenLogProbabilities, document_log_probabilities, plain_head
from data_common.models.loading import load_model
from data_common.models.settings import settle
from data_common.models.tokens import TokenStore, embedding_count
from data_common.models.traits import Traits, check, same_states, traits
from data_scoring.engines.influence.data_scorer import DataScorer
from data_scoring.engines.influence.per_sample_gradients import PerSampleGradients
from tests.data_scoring.brute_force import flat_gradient, one_loss
from tests.models import VOCABULARY, byte_tokenizer, random_model
from tests.planted import change

DOCUMENTS = [np.arange(length) * 7 % VOCABULARY for length in (9, 4, 2, 17)]


def found_by(model):
    """(mean loss, gradient norm) of each document as the project computes them."""
    lengths = np.array([len(document) for document in DOCUMENTS])
    store = TokenStore(np.concatenate(DOCUMENTS), np.cumsum(lengths) - lengths, lengths)
    with tqdm(disable=True) as progress:
        every = document_log_probabilities(TokenLogProbabilities(model), store, 64, 100, progress)
    losses = [-part.mean() for part in np.split(every, np.cumsum(lengths - 1)[:-1])]
    with PerSampleGradients(model, DOCUMENTS[:2]) as reader:
        return losses, reader.dots_and_norms(DOCUMENTS, None)[1]


def wanted_of(model):
    losses = [one_loss(model, document) for document in DOCUMENTS]
    return [loss.item() for loss in losses], [flat_gradient(model, loss).norm().item() for loss in losses]


class Odd(PreTrainedModel):
    """As code that comes with a model may be: no name for its embeddings, no body, and what `form` makes of logits."""

    config_class = LlamaConfig
    form = staticmethod(lambda logits: (logits,))

    def __init__(self, config):
        super().__init__(config)
        self.tokens = torch.nn.Embedding(VOCABULARY, 8)
        self.mixer = torch.nn.GRU(8, 8, batch_first=True)
        self.out = torch.nn.Linear(8, VOCABULARY)

    def get_input_embeddings(self):
        raise NotImplementedError

    def forward(self, input_ids, use_cache=None):
        return self.form(self.out(self.mixer(self.tokens(input_ids))[0]))


def odd(form):
    torch.manual_seed(0)
    model = Odd(LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=64)).double().eval()
    model.form = form
    return model


@pytest.mark.parametrize("form", [lambda logits: (logits, None), lambda logits: logits], ids=["tuple", "tensor"])
def test_a_model_without_names_for_what_it_has(form):
    model = odd(form)
    assert embedding_count(model) == VOCABULARY and plain_head(model) is None
    model.form = lambda logits: type("Output", (), {"logits": logits})
    wanted = wanted_of(model)
    model.form = form
    assert traits(model) == Traits(positions=False, mixed_lengths=True)
    for found, right in zip(found_by(model), wanted, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-6)


def test_a_model_that_gives_nothing_known_is_refused():
    with pytest.raises(UserError, match="neither logits nor last_hidden_state"):
        traits(odd(lambda logits: {"scores": logits}))


def test_a_body_that_tells_no_states_is_read_by_its_logits():
    model = random_model("llama-untied")
    wanted, forward = wanted_of(model), model.model.forward
    model.forward = lambda whole=model.forward, **inputs: whole(**inputs)
    traits(model)
    body = torch.nn.Module()
    body.forward = lambda **inputs: {"states": forward(**inputs)}
    model.base_model_prefix, model.hidden = "hidden", body
    assert plain_head(model) is None
    for found, right in zip(found_by(model), wanted, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-6)


def test_flags_that_are_left_in_a_configuration(tmp_path):
    """A folder whose configuration asks for tuples, hidden states and attention weights."""
    model = random_model("llama-untied", torch.float32)
    wanted = wanted_of(model)
    model.save_pretrained(tmp_path)
    change(tmp_path / "config.json", return_dict=False, output_hidden_states=True, use_cache=True, torchscript=True)
    byte_tokenizer().save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), byte_tokenizer(), dtype=torch.float32, attn_implementation="sdpa")
    check(loaded, 64)
    for found, right in zip(found_by(loaded), wanted, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-4)
    assert DataScorer(loaded.model).mixed_lengths


def test_weights_that_are_no_numbers():
    model = random_model("llama-untied", torch.float32)
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    with pytest.raises(UserError, match="computes is no number"):
        traits(model)


def test_numbers_too_large_for_half_precision_are_left_to_the_precision_of_the_stage():
    model = random_model("llama-untied", torch.float32)
    with torch.no_grad():
        model.model.embed_tokens.weight *= 1e6
    assert traits(model).mixed_lengths
    assert traits(model.half()).mixed_lengths


class Growing(torch.nn.Module):
    """Scales by the longest row since the last one that is short, as some kinds of dynamic rotary positions do."""

    def __init__(self):
        super().__init__()
        self.longest = 0

    def forward(self, states):
        length = states.shape[1]
        self.longest = 0 if length <= 16 else max(self.longest, length)
        return states * (1 + self.longest / 64)


def test_what_is_kept_of_longer_rows_is_found():
    model = random_model("llama-untied")
    model.model.norm = torch.nn.Sequential(model.model.norm, Growing())
    with pytest.raises(UserError, match="otherwise after another one"):
        check(model, 64)


def test_a_length_that_matters_is_told(capsys):
    model = random_model("llama-untied")
    model.model.norm = torch.nn.Sequential(model.model.norm, Scaled())
    settings.tell_once.cache_clear()
    assert not check(model, 64).mixed_lengths
    assert "LlamaForCausalLM reads a row otherwise beside a longer one" in capsys.readouterr().out


class Scaled(torch.nn.Module):
    """Scales by the longest row of the batch."""

    def forward(self, states):
        return states * (1 + states.shape[1] / 64)


def test_same_states():
    one = torch.tensor([1.0, -torch.inf, 3.0])
    assert same_states(one, one) and same_states(one, one * (1 + 1e-6)) and not same_states(one, one * 1.001)
    assert same_states(one.bfloat16(), one.bfloat16() * 1.01) and not same_states(one.double(), one.double() + 1e-4)


def test_settling_changes_nothing_that_a_model_says():
    model = random_model("gpt2")
    before = model.config.to_dict()
    settle(model)
    assert model.config.to_dict() == before and isinstance(model.config, GPT2Config)
