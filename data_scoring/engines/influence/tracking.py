"""Numbers of a run to Weights & Biases and other trackers, through accelerate's interface to them."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from data_common.messages.errors import UserError
from data_common.parallel import distributed
from data_scoring.engines.influence.trajectory import Log


def chosen(report_to: str | list[str]) -> dict[str, type]:
    """The trackers of `report_to`; none for "none". Raises: UserError for one that is unknown or not installed."""
    names = [report_to] if isinstance(report_to, str) else report_to
    if names in (["none"], []):
        return {}
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    available = [str(getattr(tracker, "value", tracker)) for tracker in get_available_trackers()]
    if missing := [name for name in names if name not in available]:
        raise UserError(f"report_to: {missing[0]} is not installed or not known; there are {', '.join(available)}")
    known = {str(getattr(kind, "value", kind)): tracker for kind, tracker in LOGGER_TYPE_TO_CLASS.items()}
    return {name: known[name] for name in names}


@contextlib.contextmanager
def tracked(report_to: str | list[str], project: str, name: str, folder: Path) -> Iterator[Log]:
    """Yield log(values, step), which tells every tracker of `report_to`; "none" = no tracker.

    folder: of the logs, for trackers that write some.
    Raises: UserError for a tracker that is unknown or not installed.
    """
    trackers = []
    for wanted, kind in chosen(report_to).items() if distributed.is_main() else ():
        options = {"logging_dir": str(folder)} if kind.requires_logging_directory else {}
        options |= {"name": name} if wanted == "wandb" else {}
        trackers.append(kind(project, **options))
        trackers[-1].start()

    def log(values: Mapping[str, float], step: int) -> None:
        for tracker in trackers:
            tracker.log(dict(values), step=step)

    try:
        yield log
    finally:
        for tracker in trackers:
            tracker.finish()
