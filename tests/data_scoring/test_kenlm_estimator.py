"""Modified Kneser-Ney: against dictionaries that follow the paper's equations, and against KenLM's lmplz."""

import random
import shutil
import subprocess
import sys
from collections import Counter, defaultdict

import kenlm
import numpy as np
import pytest

from data_scoring.kenlm.arpa import write_arpa
from data_scoring.kenlm.estimator import BEGIN, FALLBACK, SPECIAL, discounts_of, estimate
from data_scoring.kenlm.language_model import load_model
from data_scoring.kenlm.training import read_tokens

# log10 probabilities of `held_out()`, all lines added up, under lmplz of kenlm 0.3.0 trained on `training_text()`:
#   lmplz -o ORDER --discount_fallback < text.txt > lm.arpa
LMPLZ = {2: -3740.918103, 3: -3781.927803, 5: -3791.859799}


def sentences(count: int, seed: int, vocabulary: int = 300) -> list[str]:
    """Zipf-like words, each drawn with the one before in mind. `random.random` is the same in every Python."""
    draw, lines = random.Random(seed).random, []
    for _ in range(count):
        words, word = [], 0
        for _ in range(int(draw() * 20)):
            fresh = int(vocabulary ** draw()) - 1
            word = fresh if draw() < 0.5 else (3 * word + int(draw() * 3)) % vocabulary
            words.append(f"w{word}")
        lines.append(" ".join(words))
    return lines


def training_text() -> list[str]:
    # The last new word occurs once, as in natural text: lmplz takes the n-grams that sort last into the statistics of
    # its discounts by occurrences instead of by adjusted count, which then are the same.
    return [*sentences(3000, 0), "once"]


def held_out() -> list[str]:
    return sentences(200, 1, vocabulary=400)  # with unknown words


def trained(lines: list[str], order: int, path) -> kenlm.Model:
    tokens, vocabulary = read_tokens(lines, lambda line: [line.split()], workers=1)
    write_arpa(path, estimate(tokens, order, len(vocabulary)), order, tokens, vocabulary)
    return load_model(str(path))


class Oracle:
    """p(word | context) by dictionaries and recursion, straight from the definition."""

    def __init__(self, lines: list[str], order: int):
        self.order = order
        raw = defaultdict(Counter)
        for line in lines:
            words = ("<s>", *line.split(), "</s>")
            for n in range(1, order + 1):
                raw[n].update(words[i : i + n] for i in range(len(words) - n + 1))
        self.words = [*sorted({gram[0] for gram in raw[1]} - {"<s>"}), "<unk>"]
        self.count = {}
        for n in range(1, order + 1):
            left = Counter(gram[1:] for gram in raw[n + 1]) if n < order else {}
            self.count[n] = {
                gram: times if n == order or (gram[0] == "<s>" and n > 1) else left[gram]
                for gram, times in raw[n].items()
            }
        self.discounts = {}
        for n, counts in self.count.items():
            found = Counter(counts.values())
            n1, n2, n3, n4 = (found[j] for j in (1, 2, 3, 4))
            d = FALLBACK
            if n1 and n2 and n3:
                y = n1 / (n1 + 2 * n2)
                d = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
                d = d if all(0 <= d[j] <= j + 1 for j in range(3)) else FALLBACK
            self.discounts[n] = d

    def probability(self, word: str, context: tuple[str, ...]) -> float:
        context = context[max(0, len(context) - self.order + 1) :]
        n = len(context) + 1
        shorter = self.probability(word, context[1:]) if n > 1 else 1 / len(self.words)
        following = {gram[-1]: c for gram, c in self.count[n].items() if gram[:-1] == context and c}
        if not following:
            return shorter
        discount = {w: self.discounts[n][min(c, 3) - 1] for w, c in following.items()}
        own = following.get(word, 0) - discount.get(word, 0)
        return (own + sum(discount.values()) * shorter) / sum(following.values())


@pytest.mark.parametrize("order", [2, 3, 5])
def test_every_probability_is_that_of_the_oracle(order, tmp_path):
    lines = sentences(60, 2, vocabulary=12)
    model, oracle = trained(lines, order, tmp_path / "lm.arpa"), Oracle(lines, order)
    contexts = [("<s>",), (), *(tuple(line.split()[:4]) for line in lines[:10]), ("w3", "w1"), ("w99", "w1")]
    for context in contexts:
        ours = [10 ** log10_probability(model, word, context) for word in oracle.words]
        theirs = [oracle.probability(word, known(context, oracle)) for word in oracle.words]
        np.testing.assert_allclose(ours, theirs, rtol=2e-5)
        assert sum(theirs) == pytest.approx(1, abs=1e-9)
        assert sum(ours) == pytest.approx(1, abs=1e-5)


def known(context: tuple[str, ...], oracle: Oracle) -> tuple[str, ...]:
    return tuple(word if word == "<s>" or word in oracle.words else "<unk>" for word in context)


def log10_probability(model: kenlm.Model, word: str, context: tuple[str, ...]) -> float:
    state, after = kenlm.State(), kenlm.State()
    model.NullContextWrite(state)
    if context[:1] == ("<s>",):
        model.BeginSentenceWrite(state)
        context = context[1:]
    for before in context:
        model.BaseScore(state, before, after)
        state, after = after, kenlm.State()
    return model.BaseScore(state, word, after)


def test_discounts_by_hand():
    # n1 = 4, n2 = 2, n3 = 1, n4 = 1: y = 4 / 8
    assert discounts_of(np.array([1, 1, 1, 1, 2, 2, 3, 4, 9])) == (
        1 - 2 * 0.5 * 2 / 4,
        2 - 3 * 0.5 * 1 / 2,
        3 - 4 * 0.5,
    )
    assert discounts_of(np.array([1, 1, 3])) == FALLBACK  # no n-gram that was seen twice
    assert discounts_of(np.array([1, 2, 3, 3, 3, 3, 3, 3])) == FALLBACK  # D2 = 2 - 3 / 3 * 6 is negative


def test_ids_do_not_overflow_with_a_large_vocabulary():
    vocabulary = 65_536 + len(SPECIAL)
    drawn = np.random.default_rng(0).integers(len(SPECIAL), vocabulary, 20_000)
    tokens = np.concatenate([[BEGIN], np.arange(len(SPECIAL), vocabulary), drawn, [2]]).astype(np.int32)
    for grams in estimate(tokens, 5, vocabulary):
        if grams.length > 1:
            windows = np.lib.stride_tricks.sliding_window_view(tokens, grams.length)
            assert len(grams.last) == len({window.tobytes() for window in windows})
        assert np.isfinite(grams.probability).all() and (grams.probability > 0).all()


def test_words_that_are_spelled_like_special_ones_are_left_out():
    tokens, vocabulary = read_tokens(["a <s> b", "</s> a"], lambda line: [line.split()], workers=1)
    assert [vocabulary[token] for token in tokens] == ["<s>", "a", "b", "</s>", "<s>", "a", "</s>"]


def total(model: kenlm.Model) -> float:
    return sum(model.score(line) for line in held_out())


@pytest.mark.parametrize("order", LMPLZ)
def test_as_lmplz(order, tmp_path):
    assert total(trained(training_text(), order, tmp_path / "lm.arpa")) == pytest.approx(LMPLZ[order], rel=1e-6)


@pytest.fixture(scope="module")
def lmplz(tmp_path_factory) -> str:
    """lmplz: on the PATH, else built from the source package of kenlm."""
    if found := shutil.which("lmplz"):
        return found
    folder = tmp_path_factory.mktemp("lmplz")
    fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "kenlm", "kenlm==0.3.0"]
    for command in (
        fetch,
        ["tar", "xzf", "kenlm-0.3.0.tar.gz"],
        ["cmake", "-S", "kenlm-0.3.0", "-B", "build", "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_TESTING=OFF"],
        ["cmake", "--build", "build", "--target", "lmplz", "--parallel", "2"],
    ):
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"lmplz cannot be built here (it needs a compiler, cmake, boost, network): {error}")
    return str(folder / "build" / "bin" / "lmplz")


@pytest.mark.slow
@pytest.mark.parametrize("order", LMPLZ)
def test_as_lmplz_built_here(order, lmplz, tmp_path):
    text = "".join(f"{line}\n" for line in training_text()).encode()
    command = [lmplz, "-o", str(order), "--discount_fallback", "-S", "500M", "-T", str(tmp_path)]
    (tmp_path / "lmplz.arpa").write_bytes(subprocess.run(command, input=text, check=True, capture_output=True).stdout)
    theirs, ours = load_model(str(tmp_path / "lmplz.arpa")), trained(training_text(), order, tmp_path / "lm.arpa")
    assert total(theirs) == pytest.approx(LMPLZ[order], abs=1e-4)
    for line in held_out():
        assert ours.score(line) == pytest.approx(theirs.score(line), abs=1e-4)
