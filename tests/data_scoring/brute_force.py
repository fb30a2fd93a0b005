"""The formulas of LQS and PDS written out, every gradient by plain autograd: slow, obvious, and the oracle."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from data_common.calls.config import build
from data_common.models.tokens import TokenStore
from data_scoring.engines.influence.annotation import annotate
from data_scoring.lqs.method import Scorer
from data_scoring.pds.method import Scorer as PdsScorer
from tests.models import VOCABULARY

ROWS, ETA = 9, 0.05


def store(seed: int, rows: int, longest: int = 12) -> TokenStore:
    random = np.random.default_rng(seed)
    lengths = random.integers(2, longest + 1, rows)
    return TokenStore(random.integers(0, VOCABULARY, lengths.sum()), np.cumsum(lengths) - lengths, lengths)


def flat_gradient(model, loss, create_graph=False):
    parts = torch.autograd.grad(loss, parameters(model), create_graph=create_graph, materialize_grads=True)
    return torch.cat([part.flatten() for part in parts])


def parameters(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def one_loss(model, document):
    """Mean token loss of one unpadded document, by the definition."""
    ids = torch.from_numpy(np.asarray(document, np.int64))[None]
    log_probabilities = model(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(-1)
    return -log_probabilities[torch.arange(ids.shape[1] - 1), ids[0, 1:]].mean()


def mean_loss(model, documents):
    return sum(one_loss(model, document) for document in documents) / len(documents)


def set_flat(model, vector):
    torch.nn.utils.vector_to_parameters(vector.clone(), parameters(model))


def brute_force(model, corpus, target, steps, batch_size, interval, lag):
    """Equation by equation: all states, all co-states, all per-sample gradients; returns (LQS, PDS)."""

    def batch(t):
        return [corpus[(t * batch_size + i) % len(corpus)] for i in range(batch_size)]

    theta = [torch.nn.utils.parameters_to_vector(parameters(model)).detach().clone()]
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
    return build(Scorer, COMMON | {"steps": steps, "interval": interval, "batch_tokens": batch_tokens} | keys)


def pds_scorer(steps=4, interval=1, batch_tokens=10**6, **keys):
    return build(PdsScorer, COMMON | {"steps": steps, "interval": interval, "batch_tokens": batch_tokens} | keys)


def gamma(scorer, model, corpus, target, folder=None):
    """The project's scores for every document of `corpus`."""
    settings = scorer.influence
    with tempfile.TemporaryDirectory() as temporary:
        keys = {"folder": Path(folder or temporary), "tracking": settings.tracking}
        keys["autocast"] = torch.bfloat16 if settings.loading.dtype == "bfloat16" else None
        return annotate(model, corpus, corpus, target, settings.simulation, scorer.formula, **keys)
