"""The picture of a comparison: average against selection ratio, one line a method."""

from pathlib import Path

from data_common.files.atomic import save_figure
from model_eval.compare.outcomes import RATIO, Comparison, method_of
from model_eval.compare.paired import AVERAGE
from model_eval.compare.table import Cell, cells


def curves(comparison: Comparison) -> dict[str, list[tuple[float, Cell]]]:
    """Method -> (selection ratio, average) of each of its arms, by ratio; arms without a ratio are left out.

    Where there is no average the first task stands for it.
    """
    found: dict[str, list[tuple[float, Cell]]] = {}
    for arm, one in cells(comparison)[shown(comparison)].items():
        outcome = next(arms[arm][0] for arms in comparison.values() if arm in arms)
        if outcome.content.get(RATIO) is not None:
            found.setdefault(method_of(outcome), []).append((outcome.content[RATIO], one))
    return {method: sorted(points, key=lambda point: point[0]) for method, points in found.items()}


def shown(comparison: Comparison) -> str:
    """What the picture shows: the average, else the first task."""
    return AVERAGE if AVERAGE in cells(comparison) else next(iter(comparison))


def draw(comparison: Comparison, path: Path) -> bool:
    """Write the PNG; False where fewer than two results have a ratio. Raises: UserError where it cannot be written."""
    lines = curves(comparison)
    if sum(map(len, lines.values())) < 2:
        return False
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(6, 4), layout="constrained")
    axes = sheet.add_subplot()
    for method, points in lines.items():
        ratios, found = zip(*points, strict=True)
        errors = [one.deviation or one.stderr or 0 for one in found]
        axes.errorbar(ratios, [one.value for one in found], errors, fmt="o-", capsize=3, label=method)
    task = shown(comparison)
    metric = next(iter(comparison[task].values()))[0].result["metric"] if task in comparison else "accuracy"
    axes.set(xlabel="selection ratio", ylabel=f"{task}: {metric}".replace("_", " "))
    axes.legend()
    save_figure(path, sheet)
    return True
