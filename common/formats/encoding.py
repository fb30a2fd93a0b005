"""Python values as JSON: dates become ISO strings, decimals strings, bytes base64, NaN and infinity null."""

import datetime
from collections.abc import Mapping
from typing import Any

import msgspec

from common.errors import UserError


def json_line(row: Mapping[str, Any], name: str) -> bytes:
    """A row as a line. name: of the set. Raises: UserError that names the field which JSON cannot hold."""
    try:
        return ENCODER.encode(row)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"{name} holds what JSON cannot: {_field(row)}{error}") from None


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
