"""The axis of a picture: from values to places, and the numbers that are written along it."""

import itertools
import math
from dataclasses import dataclass

import numpy as np

OUTLIERS = (0.001, 0.999)  # quantiles between which an axis shows the values
LARGEST = 1e290  # beyond it sums overflow, below its inverse differences vanish
TICKS = 6
POWERS = 7  # of ten


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` lie at the places from `begin` to `end`, in units of the picture."""

    label: str
    low: float
    high: float
    begin: float
    end: float
    logarithmic: bool = False

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Values -> places; those beyond the axis lie at its ends."""
        return self.begin + self._share(np.clip(values, self.low, self.high)) * (self.end - self.begin)

    def holds(self, values: np.ndarray) -> np.ndarray:
        """Which values are not beyond the axis; NaN is."""
        return (values >= self.low) & (values <= self.high)

    def edges(self, count: int) -> np.ndarray:
        """Values that cut the axis into so many parts of one width, (count + 1,)."""
        if self.logarithmic:
            return self.low * (self.high / self.low) ** np.linspace(0, 1, count + 1)
        return np.linspace(self.low, self.high, count + 1)

    def ticks(self) -> list[tuple[float, str]]:
        """Place and text of each number along the axis."""
        numbers = self._powers() if self.logarithmic else []
        texts = [f"{number:,.0f}" for number in numbers]
        if len(numbers) < 2:
            numbers = round_numbers(self.low, self.high)
            texts = spelled_alike(numbers)
        return [(float(self(number)), text) for number, text in zip(numbers, texts, strict=True)]

    def _share(self, values: np.ndarray) -> np.ndarray:
        if self.logarithmic:
            return np.log(values / self.low) / math.log(self.high / self.low)
        scale = max(abs(self.low), abs(self.high))  # differences of large values would overflow
        return (values / scale - self.low / scale) / (self.high / scale - self.low / scale)

    def _powers(self) -> list[float]:
        powers = [10.0**power for power in range(math.ceil(math.log10(self.low)), 1 + int(math.log10(self.high)))]
        return [number for number in powers if self.low <= number <= self.high][-POWERS:]


def data_range(values: np.ndarray) -> tuple[float, float]:
    """The range of an axis that shows values, at least one, without their outliers; never empty."""
    ordered = np.sort(np.clip(values, -LARGEST, LARGEST))
    last = len(ordered) - 1
    low, high = ordered[math.floor(OUTLIERS[0] * last)], ordered[math.ceil(OUTLIERS[1] * last)]
    if high - low <= max(1e-9 * max(abs(low), abs(high)), 1 / LARGEST):  # no nearer values can be told apart
        margin = abs(low) / 2 if abs(low) > 1 / LARGEST else 0.5
        low, high = low - margin, high + margin
    return float(low), float(high)


def round_numbers(low: float, high: float) -> list[float]:
    """Some multiples of 1, 2 or 5 times a power of ten in [low, high]."""
    step = 10.0 ** math.floor(math.log10(high / TICKS - low / TICKS))
    step *= next(factor for factor in (1, 2, 5, 10) if high / step / factor - low / step / factor <= TICKS)
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def spelled_alike(numbers: list[float]) -> list[str]:
    """Numbers with as many digits as tell neighbours apart."""
    if len(numbers) < 2:
        return [f"{number:g}" for number in numbers]
    largest, step = max(map(abs, numbers)), min(abs(b - a) for a, b in itertools.pairwise(numbers))
    if step >= 1e-4 and largest < 1e7:
        decimals = next(n for n in range(6) if math.isclose(round(step, n), step, rel_tol=1e-6) or n == 5)
        return [f"{number + 0.0:,.{decimals}f}" for number in numbers]
    digits = max(1, math.ceil(math.log10(largest / step)) + 1)
    return [f"{number:.{digits}g}" for number in numbers]
