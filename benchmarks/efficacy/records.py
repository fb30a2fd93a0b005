"""The committed records of cells as measurements."""

import json
from typing import Any, NamedTuple

from benchmarks.efficacy.plan import FOLDER, Plan
from benchmarks.efficacy.statistics import Noise, Run, area, pooled

TARGET, GENERAL, SECOND, AREA = "target-like", "general", "second target", "curve"


class Measure(NamedTuple):
    """One thing that was measured in every cell, and its noise."""

    title: str
    runs: list[Run]
    noise: Noise


def read(data: str, kind: str = "cells") -> list[dict[str, Any]]:
    """All records of `real` or `embedded`, by name. kind: cells or accuracy."""
    paths = sorted((FOLDER / "results" / data / kind).glob("*"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def measures(plan: Plan, records: list[dict[str, Any]]) -> dict[str, Measure]:
    """Bits per byte on target-like and on general text (mean of the clean domains); mean height of the loss curve."""
    target = plan.sizes.main_target

    def general(record: dict[str, Any]) -> float:
        values = [value for name, value in record["bits_per_byte"].items() if name != target]
        return sum(values) / len(values)

    reading = {
        TARGET: ("bits per byte, target-like text", lambda record: record["bits_per_byte"][target]),
        GENERAL: ("bits per byte, general text", general),
        SECOND: (
            f"bits per byte, {plan.second_target}",
            lambda record: record["bits_per_byte"][plan.second_target],
        ),
        AREA: ("mean held-out loss over training, nats per token", lambda record: area(record["curve"])),
    }
    found = {}
    for name, (title, value) in reading.items():
        runs = [Run(r["arm"], r["block"], value(r)) for r in records]
        found[name] = Measure(title, runs, pooled(runs))
    return found
