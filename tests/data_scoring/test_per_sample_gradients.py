"""Dot products and norms of per-sample gradients against autograd, sample by sample, in float64."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data_common.models.traits import Traits
from data_scoring.engines.influence import rule_comparison
from data_scoring.engines.influence.per_sample_gradients import PerSampleGradients, sample_losses
from tests.data_scoring.brute_force import flat_gradient, one_loss, store
from tests.models import CONFIGURATIONS, random_model


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
        self.config, self.get_input_embeddings = inner.config, inner.get_input_embeddings

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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("architecture", CONFIGURATIONS)
def test_known_architectures_need_no_slow_way(architecture, dtype, capsys):
    assert not PerSampleGradients(random_model(architecture, dtype), list(store(1, 2))).one_by_one
    assert not capsys.readouterr().out


def test_padding_changes_no_loss():
    model, documents = random_model("gpt2"), list(store(5, 6))
    batched = sample_losses(model, documents).detach().numpy()
    np.testing.assert_allclose(batched, [one_loss(model, d).item() for d in documents], rtol=1e-12)


class Rare(torch.nn.Module):
    """An MLP with one layer more for the token 5, as an expert that is seldom chosen."""

    def __init__(self, mlp, table):
        super().__init__()
        self.mlp, self.table = mlp, table
        self.extra = torch.nn.Linear(16, 16, dtype=torch.float64)

    def forward(self, states):
        places = self.table.ids.flatten() == 5
        flat = self.mlp(states).flatten(0, 1)
        if places.any():
            flat = flat.index_add(0, places.nonzero().flatten(), self.extra(states.flatten(0, 1)[places]))
        return flat.view_as(states)


def test_a_layer_that_was_not_used_when_rules_were_compared(capsys):
    """As many of its tokens as there are rows, all of the first row: not one of each."""
    model = random_model("llama-untied")
    layer = model.model.layers[0]
    layer.mlp = Rare(layer.mlp, model.model.embed_tokens)
    model.model.embed_tokens.register_forward_pre_hook(lambda module, given: setattr(module, "ids", given[0]))
    documents = [np.array([1, 5, 5, 5, 7]), np.array([9, 8, 7]), np.array([3, 2, 9, 9])]
    with PerSampleGradients(model, [np.array([1, 2, 3, 4]), np.array([4, 3])]) as reader:
        assert "extra" not in capsys.readouterr().out
        _, norms = reader.dots_and_norms(documents, None)
    assert "no rule for per-sample gradients of model.layers.0.mlp.extra.weight" in capsys.readouterr().out
    wanted = [flat_gradient(model, one_loss(model, document)).norm().item() for document in documents]
    np.testing.assert_allclose(norms, wanted, rtol=1e-6)


class Elsewhere(torch.nn.Module):
    """Multiplies by the weight of a layer that it does not call, with little effect."""

    def __init__(self, mlp, effect):
        super().__init__()
        self.mlp, self.inner, self.effect = mlp, torch.nn.Linear(16, 16, bias=False, dtype=torch.float64), effect

    def forward(self, states):
        return self.mlp(states) + self.effect * states @ self.inner.weight.T


@pytest.mark.parametrize("effect", [1.0, 1e-9])
def test_a_weight_that_its_layer_does_not_apply_is_found_however_small_its_gradient(effect, capsys):
    model = random_model("llama-untied")
    model.model.layers[0].mlp = Elsewhere(model.model.layers[0].mlp, effect)
    PerSampleGradients(model, [np.array([1, 2, 3, 4]), np.array([4, 3])])
    assert "no rule for per-sample gradients of model.layers.0.mlp.inner.weight:" in capsys.readouterr().out


@pytest.mark.parametrize("lengths", [(2, 3), (9, 5)])
@pytest.mark.parametrize("mixed", [True, False])
def test_every_special_token_is_read_when_rules_are_compared(monkeypatch, lengths, mixed):
    model = random_model("llama-untied")
    model.config = copy.copy(model.config)
    model.config.pad_token_id, model.config.eos_token_id = 3, [257, 11, 12]
    monkeypatch.setattr(rule_comparison, "traits", lambda _: Traits(True, mixed))
    documents = rule_comparison.tried(model, [np.arange(20, 20 + length) for length in lengths])
    assert {3, 11, 12, 256, 257} <= {int(token) for document in documents for token in document[:-1]}
    assert len(documents) != max(map(len, documents)) and min(map(len, documents)) >= 2
    assert mixed or len(set(map(len, documents))) == 1
