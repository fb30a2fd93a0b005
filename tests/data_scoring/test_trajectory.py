"""Co-states and Hessian-vector products: identities, finite differences, states trained again."""

import os
import shutil

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from data_common.messages.errors import UserError
from data_scoring.engines.influence.trajectory import (
    StoredStates,
    Trajectory,
    copy,
    exact_product,
    finite_difference_product,
)
from tests.data_scoring.brute_force import (
    ETA,
    ROWS,
    brute_force,
    flat_gradient,
    gamma,
    mean_loss,
    one_loss,
    pds_scorer,
    scorer,
    set_flat,
    store,
)
from tests.models import random_model


def test_co_states_are_the_derivative_of_the_area_under_the_target_loss(eager):
    """sum_t lambda_{t+1} . grad l_n = -(1/eta) d/dw sum_{t=1..T} J(theta_t), by central differences.

    On GPT-2: the norms of the Llama family compute in float32 even in a float64 model, too coarse for differences.
    """
    corpus, target, steps = store(2, ROWS), store(3, 4), 3
    plan = Trajectory(steps, ETA, 2, 10**6)
    pds = gamma(pds_scorer(steps), random_model("gpt2"), corpus, target)

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
    np.testing.assert_allclose(gamma(pds_scorer(steps), random_model("gpt2"), corpus, target), expected, rtol=1e-8)


def test_stored_and_held_states_grow_as_the_square_root_of_the_steps(monkeypatch):
    """25 steps: 6 states and 5 co-states on disk, and at most 5 states trained again at a time."""
    saved, held = [], []
    save, segment = StoredStates.save, Trajectory._segment
    monkeypatch.setattr(StoredStates, "save", lambda *words: saved.append(words[1:3]) or save(*words))

    def counting(*arguments):
        result = segment(*arguments)
        held.append(len(result))
        return result

    monkeypatch.setattr(Trajectory, "_segment", counting)
    gamma(pds_scorer(25, interval=5), random_model("mistral-tied"), store(2, ROWS), store(3, 4))
    assert saved[:6] == [("theta", step) for step in (0, 5, 10, 15, 20, 25)]
    assert saved[6:] == [("lambda", step) for step in (25, 20, 15, 10, 5)]
    assert held == [5, 5, 5, 5, 5]


def test_finite_difference_is_near_the_exact_hessian_and_none_is_not():
    corpus, target = store(2, ROWS), store(3, 4)
    exact, near, without = (
        gamma(scorer(10, hessian=hessian), random_model("gpt2"), corpus, target)
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


def test_a_parameter_that_is_never_used_changes_no_score():
    corpus, target = store(2, ROWS), store(3, 4)
    plain = gamma(scorer(), random_model("gpt2"), corpus, target)
    model = random_model("gpt2")
    model.unused = torch.nn.Linear(3, 3).double()
    np.testing.assert_allclose(gamma(scorer(), model, corpus, target), plain, rtol=1e-12)


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("after", range(1, 18))
def test_a_killed_annotation_goes_on_to_the_very_same_scores(after, tmp_path, monkeypatch):
    """Ended after each of the 17 files that a run of 9 steps writes in turn: states, co-states, readings."""
    corpus, target = store(2, ROWS), store(3, 4)
    keys = scorer(9, interval=2, lag=1)
    expected = gamma(keys, random_model("mistral-tied"), corpus, target)
    written = []
    replace = os.replace

    def counting(*paths):
        replace(*paths)
        written.append(paths)
        if len(written) == after:
            raise Killed

    monkeypatch.setattr(os, "replace", counting)
    with pytest.raises(Killed):
        gamma(keys, random_model("mistral-tied"), corpus, target, tmp_path)
    steps = []
    train_step = Trajectory.train_step
    monkeypatch.setattr(Trajectory, "train_step", lambda *words: steps.append(words[3]) or train_step(*words))
    np.testing.assert_array_equal(gamma(keys, random_model("mistral-tied"), corpus, target, tmp_path), expected)
    assert len(steps) < 9 + 6 or after == 1  # 9 forward, 2 in each of the 3 segments on the way back


def test_without_its_reading_a_visited_step_is_not_passed_over(tmp_path, monkeypatch):
    corpus, target, keys = store(2, ROWS), store(3, 4), scorer(9, interval=3)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *words, **keys: None)  # the states stay, as after a kill
        gamma(keys, random_model("gpt2"), corpus, target, tmp_path)
    (tmp_path / "sweep" / "step-000006.npz").unlink()
    with pytest.raises(UserError, match=r"step-000006.npz is missing"):
        gamma(keys, random_model("gpt2"), corpus, target, tmp_path)


def test_bfloat16_reads_nearly_the_same_scores():
    corpus, target = store(2, 60), store(3, 4)
    models = [random_model("mistral-tied", torch.float32) for _ in range(2)]
    exact, near = (
        gamma(scorer(dtype=d), m, corpus, target) for d, m in zip(("float32", "bfloat16"), models, strict=True)
    )
    assert spearmanr(exact, near).statistic > 0.99 and not np.array_equal(exact, near)


def test_a_full_disk_is_one_line(tmp_path):
    model = random_model("gpt2")
    states = StoredStates(tmp_path / "states", 3)
    states.folder.write_text("in the way")
    with pytest.raises(UserError, match="cannot store step 3"):
        states.save("theta", 3, copy(model))
