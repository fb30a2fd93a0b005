"""Random numbers of rows: functions of the row's number and the seed, whichever other rows are there."""

import numpy as np


def uniform(row_number: np.ndarray, seed: int) -> np.ndarray:
    """One uniform variate strictly between 0 and 1 a row, a function of its number and the seed. (n,) -> (n,)."""
    start = np.random.default_rng(seed).integers(2**64, dtype=np.uint64)
    return ((splitmix64(start, row_number) >> np.uint64(12)) + 0.5) * 2.0**-52  # 52 bits and a half


def gumbel_noise(row_number: np.ndarray, seed: int) -> np.ndarray:
    """One standard Gumbel variate a row, a function of its number and the seed. (n,) -> (n,)."""
    return -np.log(-np.log(uniform(row_number, seed)))


def noisy(score: np.ndarray, row_number: np.ndarray, temperature: float, seed: int) -> np.ndarray:
    """Scores of which the k largest are k draws without replacement in proportion to exp(score / temperature), (n,).

    They are score / temperature + noise, all times min(temperature, 1): no temperature overflows.
    """
    return score / max(temperature, 1) + min(temperature, 1) * gumbel_noise(row_number, seed)


def splitmix64(start: np.uint64, position: np.ndarray) -> np.ndarray:
    """Outputs number `position` (from 0) of the SplitMix64 generator in the state `start`. (n,) -> (n,), uint64.

    Source: Steele, Lea, Flood, Fast splittable pseudorandom number generators, https://doi.org/10.1145/2660193.2660195
    """
    bits = start + (position.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
