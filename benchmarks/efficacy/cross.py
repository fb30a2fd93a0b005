"""Orders x schedules of the learning rate x averaging: tables of cross.md from the records in results/cross.

    python -m benchmarks.efficacy.cross

The arm ORDER.SCHEDULE is the last weights of a training, ORDER.SCHEDULE.mean their average over its last checkpoints.
"""

from collections.abc import Callable, Sequence

from benchmarks.efficacy import records
from benchmarks.efficacy.plan import FOLDER, Plan, load
from benchmarks.efficacy.records import GENERAL, TARGET, Measure
from benchmarks.efficacy.report import markdown, refreshed, shown

PAGE = FOLDER / "cross.md"
CONTROL = "shuffle"
MEAN = ".mean"


def grid(plan: Plan, found: Measure) -> str:
    """The level of each pair: a row for each order, two columns for each schedule; the lowest of all is bold."""
    schedules = [f"{name}{end}" for name in plan.cross["schedules"] for end in ("", MEAN)]
    levels = {arm: found.fit.level(arm)[0] for arm in found.fit.runs}
    lowest = min(levels.values())
    rows = []
    for order in plan.cross["orders"]:
        cells = [levels.get(f"{order}.{schedule}") for schedule in schedules]
        if any(cells):
            rows.append([order, *("" if cell is None else bold(f"{cell:.3f}", cell == lowest) for cell in cells)])
    return markdown(["order", *(name.replace(MEAN, ", mean") for name in schedules)], rows)


def bold(text: str, wanted: bool) -> str:
    return f"**{text}**" if wanted else text


def best_of(found: Measure, order: str) -> str | None:
    """The pair of an order with the lowest level."""
    own = [arm for arm in found.fit.runs if arm.split(".")[0] == order]
    return min(own, key=lambda arm: found.fit.level(arm)[0], default=None)


def against_best_shuffle(plan: Plan, target: Measure, general: Measure) -> str:
    """The best pair of each order minus the best pair of `shuffle`, chosen on each kind of text by itself."""
    rows = []
    for order in plan.cross["orders"]:
        cells = []
        for found in (target, general):
            best, control = best_of(found, order), best_of(found, CONTROL)
            if order != CONTROL and best and control:
                cells += [f"{best} - {control}", runs_of(found, best), shown(found.fit.difference(best, control))]
        if cells:
            rows.append([order, *cells])
    columns = [f"{name}{kind}" for kind in (TARGET, GENERAL) for name in ("pairs, ", "runs, ", "")]
    return markdown(["order", *columns], rows)


def runs_of(found: Measure, arm: str) -> str:
    return str(found.fit.runs[arm])


def averaging(plan: Plan, target: Measure, general: Measure) -> str:
    """What averaging changes for each pair: the mean of the weights minus the last ones."""
    arms = [arm for arm in target.fit.runs if arm + MEAN in target.fit.runs]
    ordered = [f"{order}.{schedule}" for order in plan.cross["orders"] for schedule in plan.cross["schedules"]]
    pairs = [(arm + MEAN, arm) for arm in ordered if arm in arms]
    return contrasts(pairs, target, general)


def contrasts(pairs: Sequence[tuple[str, str]], target: Measure, general: Measure) -> str:
    """A row for each pair of arms that have run."""
    rows = []
    for first, second in pairs:
        values = [one.fit.difference(first, second) for one in (target, general)]
        if all(values):
            rows.append([f"{first} - {second}", " / ".join(map(str, values[0].runs)), *map(shown, values)])
    return markdown(["contrast", "runs", TARGET, GENERAL], rows)


def tables() -> dict[str, Callable[[], str]]:
    """Name -> the table, made when asked for."""
    plan = load("real")
    found = records.measures(plan, records.read("cross"))
    target, general = found[TARGET], found[GENERAL]
    return {
        "grid-target": lambda: grid(plan, target),
        "grid-general": lambda: grid(plan, general),
        "questions": lambda: contrasts(plan.cross["contrasts"], target, general),
        "averaging": lambda: averaging(plan, target, general),
        "best": lambda: against_best_shuffle(plan, target, general),
    }


def main() -> None:
    made = tables()
    PAGE.write_text(refreshed(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
    for name, table in made.items():
        print(f"{name}\n\n{table()}")


if __name__ == "__main__":
    main()
