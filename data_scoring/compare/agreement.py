"""How far two scores of the same rows agree; higher is better in both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_common.rows.statistics import ranks, spearman


@dataclass(frozen=True)
class Overlap:
    """The best share r of the rows by each score. rows: floor(r n); both: how many of them are among both."""

    r: float
    rows: int
    both: int


@dataclass(frozen=True)
class GroupAgreement:
    """A group of rows: how the scores agree inside it, and which share of it each puts among the best r of all."""

    name: str
    rows: int
    spearman: float | None
    best_by_one: float
    best_by_other: float


def best(score: np.ndarray, r: float) -> np.ndarray:
    """Which rows are the floor(r n) best, (n,); ties at the cut go to the earlier row."""
    chosen = np.zeros(len(score), bool)
    chosen[np.argsort(-score, kind="stable")[: int(r * len(score))]] = True
    return chosen


def overlaps(one: np.ndarray, other: np.ndarray, shares: Sequence[float]) -> list[Overlap]:
    """For each share. one, other: (n,)."""
    pairs = [(r, best(one, r), best(other, r)) for r in shares]
    return [Overlap(r, int(mine.sum()), int((mine & others).sum())) for r, mine, others in pairs]


def by_group(one: np.ndarray, other: np.ndarray, group: np.ndarray, r: float) -> list[GroupAgreement]:
    """The largest group first. group: names, (n,)."""
    mine, others = best(one, r), best(other, r)
    names, place, counts = np.unique(group, return_inverse=True, return_counts=True)
    found = []
    for number in np.argsort(-counts, kind="stable"):
        rows = np.flatnonzero(place == number)
        shares = float(mine[rows].mean()), float(others[rows].mean())
        found.append(GroupAgreement(names[number], len(rows), spearman(one[rows], other[rows]), *shares))
    return found


def rank_difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """By how much more of the rows the first score puts each row above than the second does, (n,) in (-1, 1)."""
    return ranks(one) - ranks(other)
