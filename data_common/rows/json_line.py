"""One line of JSON: its wanted fields decoded, or the reason why not; a field added without touching the rest."""

import json
import math
import operator
import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any

import msgspec
import numpy as np

from data_common.messages.errors import UserError
from data_common.messages.visible import brief
from data_common.rows.whole_row import WholeRow

ESCAPED = re.compile(r'[\x00-\x1f"\\]')  # characters that JSON spells in another way inside a string
BEGIN, END = b"{}"
Number = float
HEAVIEST = 1e30  # sums of weights stay finite
Weight = Annotated[float, msgspec.Meta(ge=0, le=HEAVIEST)]
Text = str | list[str]
Label = str | bool | int | float
Id = str | int
Scalar = str | bool | int | float | None
NOT = {Text: "not text", Label: "not a string, number or boolean", Id: "not a string or whole number"}


ROLES = " (roles are system, user and assistant; what others call human is user, gpt is assistant)"
CHATS = ("messages", "conversations")
SHOWN_FIELDS = 8


class BadRow(Exception):
    """Why a line is no usable row. cure: what may be meant instead, with {key} for the key that names a text field."""

    def __init__(self, reason: str, cure: str = ""):
        super().__init__(reason)
        self.cure = cure


class FieldExists(BadRow):
    """A field is there that must not be: a mistake in the call, so that no row is dropped for it."""


class Decoder:
    """Line -> values of the wanted fields. msgspec first; what it refuses gets one try with stdlib json.

    A dot steps into an object: `meta.score` is the field `score` of the object `meta`. In a row that has a
    top-level field spelled `meta.score`, that one is meant.
    """

    def __init__(self, fields: Mapping[str, Any]):
        """fields: name -> `Number`, `Weight` (a number from 0 to 1e30), `Text`, `Label` or another type that msgspec
        knows; `msgspec.UnsetType` for a top-level field that must be absent; a `WholeRow`.

        Raises: UserError where one field is wanted both as a value and as the object that holds another.
        """
        self.fields = dict(fields)
        tree: dict[str, Any] = {}
        for name, wanted in self.fields.items():
            _put(tree, [name] if wanted is msgspec.UnsetType else name.split("."), wanted)
        # A top-level field with a dot in its own name is rare: it is refused here, and read by stdlib json.
        paths = [_attribute_path(tree, name) for name in self.fields]
        tree |= {name: msgspec.UnsetType for name in self.fields if "." in name}
        whole = any(isinstance(wanted, WholeRow) for wanted in self.fields.values())
        if whole or any(map(ESCAPED.search, self.fields)):  # which msgspec does not know: stdlib json reads each line
            self.decode = self.decode_lines = _refuse
        else:
            decoder = msgspec.json.Decoder(_struct(tree))
            self.decode, self.decode_lines = decoder.decode, decoder.decode_lines
        self.values = operator.attrgetter(*paths) if paths else lambda row: ()

    def __call__(self, line: bytes, valid_utf8: bool) -> Any:
        """One value for one field, else a tuple. Raises: BadRow."""
        try:
            if not valid_utf8:
                line.decode()
            return self.values(self.decode(line))
        except UnicodeDecodeError:
            raise BadRow("invalid UTF-8") from None
        except (msgspec.MsgspecError, RecursionError):
            return self.of_row(_parse(line))

    def of_row(self, row: dict[str, Any]) -> Any:
        """The same of a row that is parsed already."""
        values = tuple(self._from_json(row, name) for name in self.fields)
        return values[0] if len(values) == 1 else values

    def all_or_none(self, block: bytes, start: np.ndarray, end: np.ndarray) -> list | None:
        """The values of all lines of valid UTF-8, quickly; None where one of them is not a plain, good row.

        msgspec sees neither an object that goes over several lines nor two in one line. Where every line begins
        with { and ends with }, a line end inside an object would stand between } and {, which no JSON has; and with
        as many objects as lines each line holds one.
        """
        text = np.frombuffer(block, np.uint8)
        if (text[start] != BEGIN).any() or (text[end - 1] != END).any():
            return None
        try:
            rows = self.decode_lines(block)
        except (msgspec.MsgspecError, RecursionError):
            return None
        return list(map(self.values, rows)) if len(rows) == len(start) else None

    def _from_json(self, row: dict, name: str) -> Any:
        """The field of a line that msgspec refused (a lone surrogate or NaN in some other field, say)."""
        wanted = self.fields[name]
        if isinstance(wanted, WholeRow):
            return wanted.read(row)
        if wanted is msgspec.UnsetType:
            if name in row:
                raise FieldExists(f"{name} is there already (overwrite=true replaces it)")
            return msgspec.UNSET
        try:
            value = lookup(row, name)
        except BadRow as bad:
            raise BadRow(str(bad), _instead(row, wanted)) from None
        if value is None:
            raise BadRow(f"{name} is null")
        if wanted in (Number, Weight) and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise BadRow(f"{name} is {_kind(value)}, not a number")
        if wanted in (Number, Weight):
            number = _finite(value, name)
            if wanted is Weight and not 0 <= number <= HEAVIEST:
                raise BadRow(f"{name} is {number:g}, not a weight from 0 to {HEAVIEST:g}")
            return number
        try:
            value = msgspec.convert(value, wanted)
        except msgspec.ValidationError as error:
            cure = ROLES if str(error).endswith(".role`") else ""
            raise BadRow(f"{name} is {_kind(value)}, {NOT.get(wanted, error)}", cure) from None
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise BadRow(f"{name} holds a lone surrogate, which is no Unicode text") from None
        return _finite(value, name) if isinstance(value, float) else value


def _refuse(content: bytes) -> Any:
    raise msgspec.DecodeError


def _put(tree: dict[str, Any], path: list[str], wanted: Any) -> None:
    *parents, last = path
    for part in parents:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            break
    if not isinstance(tree, dict) or last in tree:
        raise UserError(f"{'.'.join(path)}: a field cannot be both a value and the object that holds another field")
    tree[last] = wanted


def _attribute_path(tree: dict[str, Any], name: str) -> str:
    """Where a decoded row has the field: members of its struct are numbered, as any text may be a name."""
    numbers = []
    for part in [name] if name in tree else name.split("."):
        numbers.append(f"member_{list(tree).index(part)}")
        tree = tree[part]
    return ".".join(numbers)


def _struct(tree: dict[str, Any]) -> type:
    """The msgspec struct of an object with these members; a member of type UnsetType must be absent."""
    members, names = [], {}
    for number, (name, wanted) in enumerate(tree.items()):
        default = (msgspec.UNSET,) if wanted is msgspec.UnsetType else ()
        members.append((f"member_{number}", _struct(wanted) if isinstance(wanted, dict) else wanted, *default))
        names[f"member_{number}"] = name
    return msgspec.defstruct("Row", members, rename=names, kw_only=True, gc=False)


def lookup(row: Mapping[str, Any], name: str) -> Any:
    """The field of a parsed row; a dot steps into an object. Raises: BadRow where it is missing."""
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            raise BadRow(f"{name} is missing")
        value = value[part]
    return value


def _instead(row: dict, wanted: Any) -> str:
    """In words: the fields of a row that hold what is wanted in one that is missing."""
    kind = {Text: str, Number: int | float, Weight: int | float}.get(wanted)
    names = [n for n, v in row.items() if kind and isinstance(v, kind) and not isinstance(v, bool)]
    listed = ", ".join(map(brief, names[:SHOWN_FIELDS])) + (", ..." if len(names) > SHOWN_FIELDS else "")
    if wanted is Text and (chats := [chat for chat in CHATS if isinstance(row.get(chat), list)]):
        return f" (its {chats[0]} are a chat: model_train posttrain reads messages, text_format=plain of others too)"
    if not names:
        return ""
    return (
        f" (the row has {listed}: {{key}}={brief(names[0])})" if wanted is Text else f" (numbers of the row: {listed})"
    )


def _finite(value: float, name: str) -> float:
    try:
        value = float(value)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise BadRow(f"{name} is not a finite number")
    return value


def _parse(line: bytes) -> dict:
    try:
        row = json.loads(line.decode(), parse_int=long_integer)
    except RecursionError:
        raise BadRow("nested too deeply") from None
    except ValueError as error:
        raise BadRow(f"broken JSON: {str(error).split(':')[0]}") from None
    if not isinstance(row, dict):
        raise BadRow(f"{_kind(row)}, not a JSON object")
    return row


def long_integer(digits: str) -> int | float:
    """Python refuses to read integers beyond some 4,300 digits: as floating point they are infinite."""
    try:
        return int(digits)
    except ValueError:
        return float(digits)


def _kind(value: Any) -> str:
    names = {bool: "a boolean", str: "a string", dict: "an object", list: "a list", type(None): "null"}
    return names.get(type(value), "a number")


def document_text(value: Any) -> str:
    """The text of a row from its text field(s): lists and several fields are joined by newlines."""
    if isinstance(value, str):
        return value
    return "\n".join(document_text(part) for part in value)


def add_field(line: bytes, name: str, value: Scalar) -> bytes:
    """A JSON object with `"name": value` added before its closing brace; all other bytes stay as they are."""
    return add_fields(line, {name: value})


def add_fields(line: bytes, fields: Mapping[str, Scalar]) -> bytes:
    """The same for several fields, in their order.

    A whole number is written with all its digits, of whatever size; NaN, which JSON lacks, as null.
    """
    body = line.rstrip()[:-1]
    comma = b"" if not fields or body.rstrip().endswith(b"{") else b", "
    members = b", ".join(b"%s: %s" % (_string(name), _spelled(value)) for name, value in fields.items())
    return body + comma + members + b"}"


def replace_field(line: bytes, name: str, value: Scalar) -> bytes:
    """The same as `add_field`, but where the field is there already, its value alone is replaced."""
    return replace_fields(line, {name: value})


def replace_fields(line: bytes, fields: Mapping[str, Scalar]) -> bytes:
    """The same for several fields; those that are not there come after the others, in their order."""
    spans = _value_spans(line, fields)
    for name, begin, end in reversed(spans):
        line = line[:begin] + _spelled(fields[name]) + line[end:]
    absent = fields.keys() - {name for name, _, _ in spans}
    return add_fields(line, {name: fields[name] for name in fields if name in absent}) if absent else line


def _spelled(value: Scalar) -> bytes:
    if isinstance(value, str):
        return _string(value)
    if value is None or isinstance(value, bool):
        return json.dumps(value).encode()
    if isinstance(value, int | np.integer):
        return repr(int(value)).encode()
    return b"null" if math.isnan(value) else repr(float(value)).encode()


def _string(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode()


def _value_spans(line: bytes, names: Collection[str]) -> list[tuple[str, int, int]]:
    """Byte ranges of the values of the top-level keys `names` in a line that is a valid JSON object."""
    text = line.decode()
    decoder, blanks, spans = json.JSONDecoder(parse_int=long_integer), " \t\r\n", []

    def skip(position: int) -> int:
        while text[position] in blanks:
            position += 1
        return position

    position = skip(skip(0) + 1)
    while text[position] != "}":
        key, position = json.decoder.scanstring(text, position + 1)
        begin = skip(skip(position) + 1)
        _, end = decoder.raw_decode(text, begin)
        if key in names:
            spans.append((key, len(text[:begin].encode()), len(text[:end].encode())))
        position = skip(end)
        if text[position] == ",":
            position = skip(position + 1)
    return spans
