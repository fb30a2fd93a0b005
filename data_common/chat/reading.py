"""Instruction rows of a file: which format they have, and the turns of each."""

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

from data_common.chat.formats import FORMATS, OLDER, Turn
from data_common.messages.errors import UserError
from data_common.messages.mistakes import did_you_mean
from data_common.messages.notes import note
from data_common.messages.visible import visible
from data_common.rows.json_line import BadRow, Decoder, lookup
from data_common.rows.jsonl import Source, first_row
from data_common.rows.whole_row import WholeRow

AUTO = "auto"
BESIDE = ("system", "tools")  # read of a row of any format
KNOWN = {name for one in FORMATS.values() for name in (*one.needs, *one.takes)}


class Read(NamedTuple):
    """What a row says."""

    turns: list[Turn]
    used: tuple[str, ...]  # fields of the row that this comes from
    beside: dict[str, Any]  # system and tools, where other fields stand for them

    def rest(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What the row says beside its turns."""
        return {name: value for name, value in row.items() if name not in self.used} | self.beside


class RowReader(WholeRow):
    """Reads rows of one format."""

    def __init__(self, name: str, fields: Mapping[str, str], first: str | None = None):
        """name: of FORMATS. fields: name of a format's field -> the row's own name of it.

        first: the row by which the format is known, in words; None = it was asked for.
        """
        self.name, self.fields, self.first, self.format = name, fields, first, FORMATS[name]
        self.own = {field: fields.get(field, field) for field in (*self.format.needs, *self.format.takes)}
        self.needed = Decoder({self.own[field]: kind for field, kind in self.format.needs.items()})
        self.taken = {field: Decoder({self.own[field]: str}) for field in self.format.takes}

    def read(self, row: dict[str, Any]) -> Read:
        """Raises: BadRow for a row of another format, and for what is no text or no turn."""
        if self.first and not _has(row, self.needed.fields) and (others := formats_of(row, self.fields)):
            raise BadRow(f"the row is {' or '.join(map(described, others))}, but {self.first}: a file has one format")
        values = self.needed.of_row(row)
        values = dict(zip(self.format.needs, values if len(self.format.needs) > 1 else [values], strict=True))
        values |= {field: one.of_row(row) for field, one in self.taken.items() if _says(row, self.own[field])}
        beside = {name: lookup(row, self.fields[name]) for name in BESIDE if _says(row, self.fields.get(name))}
        used = (*self.own.values(), *(self.fields[name] for name in beside))
        return Read(self.format.turns(values), used, beside)


def described(name: str) -> str:
    """A format with the fields by which it is known."""
    return f"{name} ({' and '.join(FORMATS[name].needs)})"


def formats_of(row: Mapping[str, Any], fields: Mapping[str, str]) -> list[str]:
    """Formats of which a row has all fields. fields: as of `RowReader`; a format must have those that it names."""
    named = fields.keys() - BESIDE
    return [
        name
        for name, one in FORMATS.items()
        if named <= {*one.needs, *one.takes} and _has(row, [fields.get(field, field) for field in one.needs])
    ]


def reader_of(source: Source, name: str = AUTO, fields: Mapping[str, str] | None = None, prefix: str = "") -> RowReader:
    """The reader of the rows of a source: of the format that is asked for, or that the first row has.

    prefix: of the keys `format` and `fields` in the call.
    Raises: UserError where the first row has no format, or several; for fields of no format.
    """
    fields = fields or {}
    check_fields(name, fields, prefix)
    if name != AUTO:
        return RowReader(name, fields)
    offset, row = first_row(copy.copy(source), "drop")  # what was counted of it before stays
    found = formats_of(row, fields)
    if not found:
        known = "; ".join(" and ".join(fields.get(field, field) for field in one.needs) for one in FORMATS.values())
        cure = f"{prefix}fields={{prompt: question, response: answer}} names yours"
        raise UserError(f"{source.path}: the first row has none of these fields: {known} ({cure})")
    others = f"{source.path}: the first row is {', '.join(map(described, found))}"
    if len(found) > 1 and found[0] not in OLDER:
        raise UserError(f"{others}: choose with {' or '.join(f'{prefix}format={one}' for one in found)}")
    if len(found) > 1:
        note(f"{visible(others)}: read as {found[0]} ({prefix}format={found[1]} reads it so)")
    return RowReader(found[0], fields, f"the first one ({source.place(offset)}) is {described(found[0])}")


def check_fields(name: str, fields: Mapping[str, str], prefix: str = "") -> None:
    """Raises UserError for names that no format has, or not the one that is asked for."""
    known = {*BESIDE, *(KNOWN if name == AUTO else (*FORMATS[name].needs, *FORMATS[name].takes))}
    for field in fields:
        if field not in known:
            whose = "a field of no format" if name == AUTO else f"no field of {prefix}format={name}"
            raise UserError(f"{prefix}fields: {visible(field)} is {whose}{did_you_mean(field, known)}")


def _says(row: Mapping[str, Any], name: str | None) -> bool:
    """Whether a row has a field that is not empty."""
    return name is not None and _value(row, name) not in (None, "", [], {})


def _has(row: Mapping[str, Any], names: Any) -> bool:
    return all(_value(row, name) is not None for name in names)


def _value(row: Mapping[str, Any], name: str) -> Any:
    try:
        return lookup(row, name)
    except BadRow:
        return None
