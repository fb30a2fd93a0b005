"""Dot products and norms of per-sample gradients against autograd, sample by sample, in float64."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data_scoring.influence.per_sample_gradients import PerSampleGradients, sample_losses
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
