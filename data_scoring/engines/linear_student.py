"""A linear classifier of texts on hashed word n-grams: fitted by scikit-learn, kept as arrays, applied part by part."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import normalize

from data_common.files.atomic import save_array, write_text
from data_common.messages.errors import UserError
from data_scoring.engines.ngrams import hashed_counts

SETTINGS, WEIGHTS = "linear_student.json", "weights.npy"
FEATURES = 2  # their version: a classifier knows the buckets of its own only


@dataclass(frozen=True)
class Linear:
    """Which features a text has, and how strongly weights are held down."""

    ngrams: int = 2  # words of the longest n-grams
    buckets: int = 2**20  # that they are hashed into
    regularization: float = 1.0  # inverse strength C of the L2 penalty

    def features(self, texts: Sequence[str]):
        """Counts of hashed n-grams, each row of length 1 (Euclidean); a sparse matrix, (texts, buckets)."""
        return normalize(hashed_counts(texts, self.ngrams, self.buckets), copy=False)


@dataclass(frozen=True)
class LinearStudent:
    """A fitted classifier."""

    settings: Linear
    weights: np.ndarray  # (buckets,)
    intercept: float

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Log-odds of the class 1 for each text, (texts,) float64."""
        return self.settings.features(texts) @ self.weights.astype(np.float64) + self.intercept

    def save(self, folder: Path) -> None:
        """Write what `load` reads."""
        save_array(folder / WEIGHTS, self.weights)
        facts = asdict(self.settings) | {"intercept": self.intercept, "features": FEATURES}
        write_text(folder / SETTINGS, json.dumps(facts, indent=2) + "\n")


def fit(features, labels: np.ndarray, settings: Linear) -> LinearStudent:
    """Logistic regression with an L2 penalty, both classes weighted alike.

    features: those of the settings, (texts, buckets). labels: (texts,) of 0 and 1.
    Raises: UserError where there is one class only.
    """
    if len(np.unique(labels)) < 2:
        raise UserError("a classifier needs texts of both classes")
    model = LogisticRegression(C=settings.regularization, solver="liblinear", class_weight="balanced", random_state=0)
    model.fit(features, labels)
    return LinearStudent(settings, model.coef_[0].astype(np.float32), float(model.intercept_[0]))


def held_out_auc(features, labels: np.ndarray, settings: Linear, share: float, seed: int) -> dict[str, float | None]:
    """How well a classifier of the other texts tells those that are held out: area under the ROC curve.

    auc is None where there are too few texts. -> facts: auc, held_out.
    """
    held_out = np.random.default_rng(seed).random(len(labels)) < share
    facts: dict[str, float | None] = {"auc": None, "held_out": int(held_out.sum())}
    if min(len(np.unique(labels[part])) for part in (held_out, ~held_out)) == 2:
        student = fit(features[~held_out], labels[~held_out], settings)
        values = features[held_out] @ student.weights
        facts["auc"] = round(float(roc_auc_score(labels[held_out], values)), 4)
    return facts


def load(folder: Path) -> LinearStudent:
    """Raises: UserError if the folder holds no classifier, or one of other features."""
    try:
        facts = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        weights = np.load(folder / WEIGHTS)
        intercept = facts.pop("intercept")
        if facts.pop("features", 1) != FEATURES:
            raise UserError(f"{folder} holds a classifier of an older version, with other features: fit it again")
        return LinearStudent(Linear(**facts), weights, intercept)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is no linear classifier: {error}") from error
