"""The picture of held-out loss along training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_common.files.atomic import save_figure
from data_common.messages.visible import visible
from data_common.parallel import distributed


def draw_curve(checkpoints: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Bits per byte against the optimizer step, one line a corpus, with confidence bands, as PNG.

    checkpoints: folder -> {step, tasks}, in the order of the steps. Raises: UserError where `path` cannot be written.
    """
    if not distributed.is_main():
        return
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(7, 4), layout="constrained")
    axes = sheet.add_subplot()
    points = list(checkpoints.values())
    steps = [point["step"] for point in points]
    for name in points[0]["tasks"]:
        results = [point["tasks"][name] for point in points]
        [line] = axes.plot(steps, [result["value"] for result in results], "o-", markersize=3, label=name)
        bands = [(result["intervals"] or {}).get("bits_per_byte") for result in results]
        if all(bands):
            axes.fill_between(steps, *zip(*bands, strict=True), color=line.get_color(), alpha=0.2)
    axes.set(xlabel="optimizer step", ylabel="bits per byte (lower is better)")
    axes.legend()
    save_figure(path, sheet)
    print(f"  drew {visible(path)}")
