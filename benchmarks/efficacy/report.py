"""Tables and figures of the study from its committed records.

    python -m benchmarks.efficacy.report [real|embedded]

Refreshes the tables between the `<!-- table: NAME -->` marks of findings.md, and the figures in docs; with
`embedded` it prints the tables only.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterable, Sequence

from benchmarks.efficacy import records
from benchmarks.efficacy.plan import FOLDER, REPOSITORY, Plan, load
from benchmarks.efficacy.records import AREA, GENERAL, REST, TARGET, Measure
from benchmarks.efficacy.statistics import CONFIDENCE, Difference, holm

PAGE, FIGURES = FOLDER / "findings.md", REPOSITORY / "docs"
NOT_RUN = "not run yet"
MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def contrasts(plan: Plan, found: dict[str, Measure], group: str) -> str:
    """Differences between arms; those whose interval excludes zero are bold."""
    names = (plan.second_target, REST, AREA) if group == "second" else (TARGET, GENERAL, AREA)
    return differences(plan.contrasts[group], {name: found[name] for name in names})


def bits(plan: Plan) -> str:
    """Perplexity against bits per byte on each kind of held-out text, from records of their own."""
    ran = records.read("bits")
    found = records.measures(plan, ran)
    names = (TARGET, GENERAL, *records.domains(plan, ran))
    return differences(plan.contrasts["bits"], {name: found[name] for name in names})


def by_domain(plan: Plan, found: dict[str, Measure], names: Sequence[str]) -> str:
    """Some of the differences on each kind of held-out text."""
    return differences(plan.contrasts["domains"], {name: found[name] for name in (TARGET, *names)})


def differences(pairs: Sequence[tuple[str, str]], found: dict[str, Measure]) -> str:
    """A row for each pair of arms, a column for each measure."""
    rows = []
    for first, second in pairs:
        parts = [one.fit.difference(first, second) for one in found.values()]
        runs = " / ".join(map(str, parts[0].runs)) if parts[0] else NOT_RUN
        rows.append([f"{first} - {second}", runs, *map(shown, parts)])
    return markdown(["contrast", "runs", *found], rows)


def corrected(plan: Plan, found: dict[str, Measure]) -> str:
    """How many contrasts have an interval that excludes zero, and which would not if all were judged together."""
    groups = [group for name, group in plan.contrasts.items() if name not in ("second", "bits", "domains")]
    pairs = dict.fromkeys(tuple(pair) for group in groups for pair in group)
    judged = [(name, pair, found[name].fit.difference(*pair)) for name in (TARGET, GENERAL) for pair in pairs]
    judged = [one for one in judged if one[2]]
    passed = holm([difference.p for *_, difference in judged])
    rows = []
    for text in (TARGET, GENERAL):
        own = [(pair, one.clear, kept) for (name, pair, one), kept in zip(judged, passed, strict=True) if name == text]
        clear, together = sum(clear for _, clear, _ in own), sum(kept for *_, kept in own)
        lost = ", ".join(f"{first} - {second}" for (first, second), clear, kept in own if clear and not kept)
        rows.append([text, str(len(own)), str(clear), str(together), lost])
    return markdown(["text", "contrasts", "clear one by one", "clear together (Holm)", "clear one by one only"], rows)


def paper(plan: Plan, found: dict[str, Measure]) -> str:
    """The paper's mean accuracies beside what the same arms reach here."""
    (usual, base), *others = plan.paper.items()
    rows = [[usual, f"{base:.2f}", "", "", ""]]
    for name, accuracy in others:
        here = [shown(found[kind].fit.difference(name, usual)) for kind in (TARGET, GENERAL)]
        rows.append([name, f"{accuracy:.2f}", f"{accuracy - base:+.2f}", *here])
    columns = ["arm", "paper: mean accuracy", "against conventional", f"here: {TARGET}", f"here: {GENERAL}"]
    return markdown(columns, rows)


def shown(difference: Difference | None) -> str:
    """Value and margin; the value is bold where the interval excludes zero. One run of each has no interval."""
    if not difference:
        return ""
    if difference.margin != difference.margin:
        return f"{difference.value:+.4f}"
    value = f"{difference.value:+.4f}"
    return f"{f'**{value}**' if difference.clear else value} ± {difference.margin:.4f}"


def pilot(plan: Plan, found: dict[str, Measure]) -> str:
    """What the pilot found, and what is found here."""
    rows = []
    for first, second, *before in plan.pilot:
        now = [found[name].fit.difference(first, second) for name in (TARGET, GENERAL)]
        pairs = [(f"{then:+.3f}" if then else "", shown(part)) for then, part in zip(before, now, strict=True)]
        rows.append([f"{first} - {second}", *pairs[0], *pairs[1]])
    return markdown(["contrast", f"{TARGET}, pilot", "here", f"{GENERAL}, pilot", "here"], rows)


def arms(plan: Plan, found: dict[str, Measure]) -> str:
    """Every arm that has run: how many runs there are, and its level on both kinds of text."""
    runs = found[TARGET].fit.runs
    rows = [
        [name, str(runs[name]), *(f"{found[key].fit.level(name)[0]:.4f}" for key in (TARGET, GENERAL))]
        for name in plan.arms
        if name in runs
    ]
    return markdown(["arm", "runs", "target-like", "general"], rows)


def accuracy(found: list[dict]) -> str:
    """Mean accuracy of the runs of each arm, by task and over all, with the standard error that the items leave."""
    tasks = list(found[0]["tasks"])
    rows = []
    for arm in dict.fromkeys(record["arm"] for record in found):
        runs = [record["tasks"] for record in found if record["arm"] == arm]
        means = [sum(run[task]["value"] for run in runs) / len(runs) for task in tasks]
        error = sum(runs[0][task]["stderr"] ** 2 for task in tasks) ** 0.5 / len(tasks)
        mean = f"{sum(means) / len(means):.3f} ± {error:.3f}"
        rows.append([arm, str(len(runs)), *(f"{value:.3f}" for value in means), mean])
    return markdown(["arm", "runs", *tasks, "mean ± standard error of one run"], rows)


def noise(found: dict[str, Measure]) -> str:
    """The standard deviation of what arm and warm start do not explain; whether the effects differ between starts."""
    rows = []
    for title, fit, (ratio, freedom, p) in found.values():
        rows.append([title, f"{fit.deviation:.4f}", str(fit.freedom), f"F{freedom} = {ratio:.2f}", f"{p:.3f}"])
    columns = ["measure", "standard deviation", "degrees of freedom", "effects differ between starts", "p"]
    return markdown(columns, rows)


def truth(scores: dict) -> str:
    """What every scorer, and lqs with a factor left out, makes of junk."""
    judged = scores["scores"] | {f"lqs {name}": one for name, one in scores.get("ablations", {}).items()}
    kinds = list(next(iter(judged.values()))["auc"])
    ends = list(next(iter(judged.values()))["planted"])
    columns = [
        "score",
        "AUC planted",
        "AUC low",
        *(f"AUC {kind}" for kind in kinds),
        *(f"junk in {end}" for end in ends),
    ]
    rows = [
        [
            name,
            *(f"{value:.2f}" for value in (one["auc_planted"], one["auc_low"], *one["auc"].values())),
            *(f"{value:.1%}" for value in one["planted"].values()),
        ]
        for name, one in judged.items()
    ]
    return markdown(columns, rows)


def percentiles(scores: dict) -> str:
    """Where each kind of text stands in each score: the mean percentile, 1 = best."""
    names = list(scores["scores"])
    kinds = sorted(next(iter(scores["scores"].values()))["mean_percentile"])
    rows = [[kind, *(f"{scores['scores'][name]['mean_percentile'][kind]:.2f}" for name in names)] for kind in kinds]
    return markdown(["kind of text", *names], rows)


def costs(found: list[dict], scores: dict | None) -> str:
    """Seconds of one thread and memory of what a cell does, as means over cells, and of each scoring."""
    rows = []
    for name in ("organise", "train", "evaluate"):
        cells = [record["cost"][name] for record in found if record["cost"][name]["wall"]]
        if cells:
            wall, cpu = (sum(cell[key] for cell in cells) / len(cells) for key in ("wall", "cpu"))
            rows.append([f"{name}, a cell", wall, cpu, max(cell["peak_mib"] for cell in cells)])
    for name, cost in (scores or {}).get("costs", {}).items():
        rows.append([f"score {name}, once", *cost.values()])
    rows = [[name, f"{wall:,.1f}", f"{cpu:,.1f}", f"{peak:,.0f}"] for name, wall, cpu, peak in rows]
    return markdown(["stage", "wall s", "CPU s", "peak memory MiB"], rows)


def tables(data: str) -> dict[str, Callable[[], str]]:
    """Name -> the table, made when asked for."""
    plan, found, answers = load(data), records.read(data), records.read(data, "accuracy")
    measured = records.measures(plan, found)
    path = FOLDER / "results" / data / "scores.json"
    scores = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return {
        "main": lambda: contrasts(plan, measured, "main"),
        "others": lambda: contrasts(plan, measured, "others"),
        "folds": lambda: contrasts(plan, measured, "folds"),
        "ratios": lambda: contrasts(plan, measured, "ratios"),
        "second": lambda: contrasts(plan, measured, "second"),
        "ideas": lambda: contrasts(plan, measured, "ideas"),
        "bits": lambda: bits(plan),
        "domains": lambda: by_domain(plan, measured, records.domains(plan, found)),
        "corrected": lambda: corrected(plan, measured),
        "paper": lambda: paper(plan, measured),
        "pilot": lambda: pilot(plan, measured),
        "arms": lambda: arms(plan, measured),
        "accuracy": lambda: accuracy(answers) if answers else NOT_RUN,
        "noise": lambda: noise(measured),
        "truth": lambda: truth(scores) if scores else NOT_RUN,
        "percentiles": lambda: percentiles(scores) if scores else NOT_RUN,
        "costs": lambda: costs(found, scores),
    }


def refreshed(page: str, made: dict[str, Callable[[], str]]) -> str:
    """The page with its marked tables made again. Raises: KeyError for a mark without a table."""
    return MARKED.sub(lambda match: match[1] + "\n" + made[match[2]]() + "\n" + match[3], page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", nargs="?", choices=["real", "embedded"], default="embedded")
    data = parser.parse_args().data
    made = tables(data)
    print(f"differences with {CONFIDENCE:.0%} confidence intervals; negative = the first arm is better\n")
    for name, table in made.items():
        print(f"{name}\n\n{table()}")
    if data == "real":
        from benchmarks.efficacy.figures import draw

        PAGE.write_text(refreshed(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
        draw(data, FIGURES)


if __name__ == "__main__":
    main()
