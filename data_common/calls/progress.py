"""How far long work has come, on standard error: a bar on a terminal; in a log a line a minute, from the first on."""

import sys
from collections.abc import Iterable
from io import StringIO
from typing import Any

from tqdm import tqdm

from data_common.parallel import distributed

MINUTE = 60.0  # seconds


class Progress(tqdm):
    """A bar of tqdm, shown by the first process of a run only; `unit` is in the singular."""

    def __init__(
        self, iterable: Iterable | None = None, desc: str | None = None, total: int | None = None, **options: Any
    ):
        """desc: what is done. options: those of tqdm; `disable=True` shows nothing."""
        self.is_bar = sys.stderr.isatty()
        if not self.is_bar:  # what moves the bars of a terminal goes nowhere
            options |= {"file": StringIO(), "mininterval": 1.0, "miniters": 0, "delay": MINUTE}
        options.setdefault("unit", "item")
        hidden = options.pop("disable", False) or not distributed.is_main()
        super().__init__(iterable, desc, total, disable=hidden, **options)
        self.told = getattr(self, "start_t", 0.0)  # when the last line was printed; a hidden bar has no start

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Called by tqdm whenever there is news."""
        if self.is_bar:
            return super().display(msg, pos)
        if msg is None and self._time() - self.told >= MINUTE:
            self.told = self._time()
            print(self, file=sys.stderr, flush=True)
        return False

    def __str__(self) -> str:
        if self.is_bar:
            return super().__str__()
        facts = self.format_dict
        done, total, seconds = facts["n"], facts["total"], facts["elapsed"]
        name = f"{facts['prefix']}: ".removeprefix(": ")
        if not total or done > total:
            return f"{name}{self._amount(done)} after {self.format_interval(seconds)}"
        rate = (done - facts["initial"]) / seconds if seconds else 0
        left = self.format_interval((total - done) / rate) if rate else "?"
        share = f"{self._amount(done, unit=False)} of {self._amount(total)} ({done / total:.0%})"
        return f"{name}{share}, {left} left"

    def _amount(self, number: int, unit: bool = True) -> str:
        if self.unit == "B":
            return self.format_sizeof(number, "B")
        return f"{number:,}" + (f" {self.unit}s" if unit else "")
