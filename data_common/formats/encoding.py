"""Python values as JSON: dates become ISO strings, decimals strings, bytes base64, NaN and infinity null."""

import datetime
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from data_common.messages.errors import UserError


def json_line(row: Mapping[str, Any], name: str) -> bytes:
    """A row as a line. name: of the set. Raises: UserError that names the field which JSON cannot hold."""
    try:
        line = ENCODER.encode(row)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"{name} holds what JSON cannot: {_field(row)}{error}") from None
    lost.numbers += _not_finite(row) if b"null" in line else 0
    return line


class Lost:
    """What JSON could not hold, and was written as null."""

    numbers = 0  # NaN and infinite ones


lost = Lost()  # since the program began


def _not_finite(value: Any) -> int:
    if isinstance(value, dict | list | tuple):
        return sum(map(_not_finite, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and not math.isfinite(value)


def _field(row: Mapping[str, Any]) -> str:
    for field, value in row.items():
        try:
            ENCODER.encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError):
            return f"{field}: "
    return ""


def _plain(value: Any) -> Any:
    """What pandas and numpy have more of than Python: nanoseconds, half precision."""
    if isinstance(value, datetime.datetime) and hasattr(value, "nanosecond"):
        return value.isoformat().replace("+00:00", "Z") if value.nanosecond else value.to_pydatetime()
    if isinstance(value, datetime.timedelta) and hasattr(value, "nanoseconds"):
        return value.isoformat() if value.nanoseconds else value.to_pytimedelta()
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        return value.item()
    raise TypeError(f"objects of type {type(value).__name__}")


ENCODER = msgspec.json.Encoder(enc_hook=_plain)
