"""One line of JSON: its wanted fields decoded, or the reason why not; a field added without touching the rest."""

import json
import operator
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

Number = float
Text = str | list[str]


class BadRow(Exception):
    """Why a line is no usable row."""


class FieldExists(BadRow):
    """A field is there that must not be: a mistake in the call, so that no row is dropped for it."""


class Decoder:
    """Line -> values of the wanted fields. msgspec first; what it refuses gets one try with stdlib json."""

    def __init__(self, fields: Mapping[str, Any]):
        self.fields = dict(fields)
        names = [f"field_{number}" for number in range(len(self.fields))]
        # A field of type UnsetType must be absent: any value of it is refused.
        defaults = [(msgspec.UNSET,) if wanted is msgspec.UnsetType else () for wanted in self.fields.values()]
        struct = msgspec.defstruct(
            "Row",
            [(name, wanted, *default) for name, wanted, default in zip(names, fields.values(), defaults, strict=True)],
            rename=dict(zip(names, self.fields, strict=True)),
            kw_only=True,
            gc=False,
        )
        self.decode = msgspec.json.Decoder(struct).decode
        self.values = operator.attrgetter(*names) if names else lambda row: ()

    def __call__(self, line: bytes, valid_utf8: bool) -> Any:
        """One value for one field, else a tuple. Raises: BadRow."""
        try:
            if not valid_utf8:
                line.decode()
            return self.values(self.decode(line))
        except UnicodeDecodeError:
            raise BadRow("invalid UTF-8") from None
        except (msgspec.MsgspecError, RecursionError):
            row = _parse(line)
            values = tuple(self._from_json(row, name) for name in self.fields)
        return values[0] if len(values) == 1 else values

    def _from_json(self, row: dict, name: str) -> Any:
        """The field of a line that msgspec refused (a lone surrogate or NaN in some other field, say)."""
        wanted = self.fields[name]
        if wanted is msgspec.UnsetType:
            if name in row:
                raise FieldExists(f"{name} is there already (overwrite=true replaces it)")
            return msgspec.UNSET
        if name not in row:
            raise BadRow(f"{name} is missing")
        value = row[name]
        if value is None:
            raise BadRow(f"{name} is null")
        if wanted is Number:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise BadRow(f"{name} is {_kind(value)}, not a number")
            try:
                value = float(value)
            except OverflowError:
                value = float("inf")
            if not np.isfinite(value):
                raise BadRow(f"{name} is not a finite number")
            return value
        try:
            value = msgspec.convert(value, wanted)
        except msgspec.ValidationError as error:
            detail = "not text" if wanted == Text else str(error)
            raise BadRow(f"{name} is {_kind(value)}, {detail}") from None
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise BadRow(f"{name} holds a lone surrogate, which is no Unicode text") from None
        return value


def _parse(line: bytes) -> dict:
    try:
        row = json.loads(line)
    except RecursionError:
        raise BadRow("nested too deeply") from None
    except ValueError as error:
        raise BadRow(f"broken JSON: {str(error).split(':')[0]}") from None
    if not isinstance(row, dict):
        raise BadRow(f"{_kind(row)}, not a JSON object")
    return row


def _kind(value: Any) -> str:
    names = {bool: "a boolean", str: "a string", dict: "an object", list: "a list", type(None): "null"}
    return names.get(type(value), "a number")


def document_text(value: Any) -> str:
    """The text of a row from its text field(s): lists and several fields are joined by newlines."""
    if isinstance(value, str):
        return value
    return "\n".join(document_text(part) for part in value)


def add_field(line: bytes, name: str, value: float) -> bytes:
    """A JSON object with `"name": value` added before its closing brace; all other bytes stay as they are."""
    body = line.rstrip()[:-1]
    comma = b"" if body.rstrip().endswith(b"{") else b", "
    return body + comma + json.dumps(name, ensure_ascii=False).encode() + b": " + _number(value) + b"}"


def replace_field(line: bytes, name: str, value: float) -> bytes:
    """The same, but where the field is there already, its value alone is replaced."""
    spans = _value_spans(line, name)
    for begin, end in reversed(spans):
        line = line[:begin] + _number(value) + line[end:]
    return line if spans else add_field(line, name, value)


def _number(value: float) -> bytes:
    return repr(float(value)).encode()


def _value_spans(line: bytes, name: str) -> list[tuple[int, int]]:
    """Byte ranges of the values of the top-level key `name` in a line that is a valid JSON object."""
    text = line.decode()
    decoder, blanks, spans = json.JSONDecoder(), " \t\r\n", []

    def skip(position: int) -> int:
        while text[position] in blanks:
            position += 1
        return position

    position = skip(skip(0) + 1)
    while text[position] != "}":
        key, position = json.decoder.scanstring(text, position + 1)
        begin = skip(skip(position) + 1)
        _, end = decoder.raw_decode(text, begin)
        if key == name:
            spans.append((len(text[:begin].encode()), len(text[:end].encode())))
        position = skip(end)
        if text[position] == ",":
            position = skip(position + 1)
    return spans
