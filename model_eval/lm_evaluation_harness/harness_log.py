"""What lm-eval warns of: collected, so that it is told with the results, once, and kept with them."""

import contextlib
import logging
from collections.abc import Iterator

LOGGER = logging.getLogger("lm_eval")
LOGGER.setLevel(logging.WARNING)
LOGGER.propagate = False
LOGGER.addHandler(logging.NullHandler())  # what is said where nobody collects is of a model object that is given to it
LONGEST = 200  # characters of a message; some hold a whole row


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first: dict[tuple[str, int], str] = {}  # by the line of code that says it
        self.counts: dict[tuple[str, int], int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        place = record.pathname, record.lineno
        message = " ".join(record.getMessage().split())
        self.first.setdefault(place, message if len(message) <= LONGEST else f"{message[:LONGEST]}...")
        self.counts[place] = self.counts.get(place, 0) + 1


@contextlib.contextmanager
def warnings_of_lm_eval() -> Iterator[list[str]]:
    """The list is filled at the end; what a line of lm-eval's code says many times stands in it once, with a count."""
    collector, found = _Collector(), []
    LOGGER.addHandler(collector)
    try:
        yield found
    finally:
        LOGGER.removeHandler(collector)
        for place, message in collector.first.items():
            count = collector.counts[place]
            found.append(f"lm-eval: {message}" + (f" ({count:,} times)" if count > 1 else ""))
