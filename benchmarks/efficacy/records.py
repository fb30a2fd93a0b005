"""The committed records of cells as measurements."""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks.efficacy.plan import FOLDER, Plan
from benchmarks.efficacy.statistics import Fit, LackOfFit, Run, area, lack_of_fit

TARGET, GENERAL, AREA = "target-like", "general", "mean height of the loss curve"
REST = "general but for the second target"


class Measure(NamedTuple):
    """One thing that was measured in every cell."""

    title: str
    fit: Fit
    between_starts: LackOfFit


def read(data: str, kind: str = "cells") -> list[dict[str, Any]]:
    """All records of `real`, `embedded`, `bits` or `cross`, by name. kind: cells or accuracy.

    A training whose weights were averaged counts twice: ARM is its last weights, ARM.mean the averaged ones.
    """
    paths = sorted((FOLDER / "results" / data / kind).glob("*"))
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    means = [
        record | {"arm": f"{record['arm']}.mean", "bits_per_byte": record["mean_bits_per_byte"]}
        for record in found
        if "mean_bits_per_byte" in record
    ]
    return found + means


def domains(plan: Plan, records: list[dict[str, Any]]) -> list[str]:
    """The names of the held-out texts but for the target-like one."""
    return [name for name in records[0]["bits_per_byte"] if name != plan.sizes.main_target]


def measures(plan: Plan, records: list[dict[str, Any]]) -> dict[str, Measure]:
    """Bits per byte on target-like text, on general text (the mean of the domains), and on each domain; loss curve."""
    names = domains(plan, records)
    reading: dict[str, tuple[str, Callable[[dict], float]]] = {
        TARGET: ("target-like text", mean_of([plan.sizes.main_target])),
        GENERAL: ("general text", mean_of(names)),
        REST: (REST, mean_of([name for name in names if name != plan.second_target] or names)),
        **{name: (name, mean_of([name])) for name in names},
    }
    reading = {name: (f"bits per byte, {title}", value) for name, (title, value) in reading.items()}
    reading[AREA] = ("mean held-out loss over training, nats per token", lambda record: area(record["curve"]))
    found = {}
    for name, (title, value) in reading.items():
        runs = [Run(record["arm"], record["block"], value(record)) for record in records]
        found[name] = Measure(title, Fit(runs), lack_of_fit(runs))
    return found


def mean_of(names: Sequence[str]) -> Callable[[dict[str, Any]], float]:
    """What reads the mean over some texts from a record."""
    return lambda record: sum(record["bits_per_byte"][name] for name in names) / len(names)
