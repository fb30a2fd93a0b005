"""Notes for the user that are given once, however often their cause is met."""

from functools import cache


@cache
def note(text: str) -> None:
    """Printed at the first call with this text."""
    print(f"note: {text}")
