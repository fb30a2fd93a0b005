"""Rows of CSV and TSV files as JSON lines: numbers keep their digits, each row has a cell for every column."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from data_common.messages.errors import UserError
from data_common.messages.notes import note
from data_common.messages.visible import visible

csv.field_size_limit(2**31 - 1)  # a cell may hold a book
DELIMITERS = {"\t": "tab", ";": "';'", "|": "'|'", ",": "','"}
NUMBER = re.compile(r" *\+?(-?)(?:(0|[1-9][0-9]*)\.?|(0|[1-9][0-9]*)?(\.[0-9]+))([eE][+-]?[0-9]+)? *", re.ASCII)
Reader = Callable[[str], str | None]  # a cell -> its JSON, or None where it is something else


def delimiter_of(word: str) -> str:
    """What --delimiter names. Raises: UserError where that is not one character."""
    found = "\t" if word in ("\\t", "tab") else word
    if len(found) != 1 or found in '"\r\n':
        raise UserError(f"--delimiter {word}: one character, or tab")
    return found


def as_number(cell: str) -> str | None:
    """A number as JSON spells it, with the digits that it has; 007 is text."""
    match = NUMBER.fullmatch(cell)
    if match is None:
        return None
    sign, whole, before, fraction, exponent = match.groups("")
    return f"{sign}{whole or before or '0'}{fraction}{exponent}"


def as_boolean(cell: str) -> str | None:
    """True and false, in capitals or not."""
    return word if (word := cell.lower()) in ("true", "false") else None


def column_readers(rows: Iterable[tuple[list[str], list[str]]]) -> dict[str, Reader]:
    """Column -> the reader of its cells, where each of them that is not empty is a number, or each a boolean.

    rows: names of the columns, and cells.
    """
    possible: dict[str, list[Reader]] = {}
    used = set()
    for names, cells in rows:
        for name, cell in zip(names, cells, strict=True):
            readers = possible.setdefault(name, [as_number, as_boolean])
            if cell and readers:
                used.add(name)
                possible[name] = [reader for reader in readers if reader(cell) is not None]
    return {name: readers[0] for name, readers in possible.items() if readers and name in used}


def csv_rows(table: Iterator[list[str]], readers: Mapping[str, Reader]) -> Iterator[bytes]:
    """One JSON object for each row; an empty cell is null.

    table: `cells_of` a file. readers: of the columns that are not text.
    """
    names = next(table)
    for cells in table:
        row = {name: _value(cell, readers.get(name)) for name, cell in zip(names, cells, strict=True)}
        yield msgspec.json.encode(row)


def _value(cell: str, reader: Reader | None) -> str | msgspec.Raw | None:
    if not cell:
        return None
    spelled = reader(cell) if reader else None
    return cell if spelled is None else msgspec.Raw(spelled.encode())


def cells_of(file: io.BufferedReader, name: str, delimiter: str) -> Iterator[list[str]]:
    """The names of the columns, then the cells of each row that is not blank.

    Raises: UserError `FILE:LINE: reason` for a row with more or fewer cells than there are names, wrong quotes, bytes
    that are no UTF-8, and a first line that has no such delimiter but another.
    """
    reader = csv.reader(_lines(file, name, delimiter), delimiter=delimiter, strict=True)
    names: list[str] = []
    long = 0
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise UserError(f"{name}:{line}: {error} (quotes inside quotes are written twice)") from None
        long += reader.line_num > line
        if not names:
            names = _names(cells, name) if cells else []
            if names:
                yield names
        elif len(cells) == len(names):
            yield cells
        elif any(cell.strip() for cell in cells) or len(cells) > 1:
            raise UserError(f"{name}:{line}: {len(cells)} cells under {len(names)} names")
    if long and delimiter == "\t":  # where quotes are rare, those that mean nothing join rows
        note(f"{visible(name)}: {long:,} rows go over several lines, between quotes")
    if not names:
        raise UserError(f"{name} has no line with the names of its columns")


def _lines(file: io.BufferedReader, name: str, delimiter: str) -> Iterator[str]:
    """With their ends, of whatever kind."""
    seen = False
    for number, line in enumerate(file, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{name}:{number}: invalid UTF-8 (iconv -f CHARSET -t utf-8 makes it of others)") from None
        parts = list(io.StringIO(text, newline="")) if "\r" in text else [text]
        if not seen and parts[0].strip():
            _check_delimiter(parts[0], f"{name}:{number}", delimiter)
            seen = True
        yield from parts


def _check_delimiter(line: str, place: str, delimiter: str) -> None:
    """Raises UserError where the names in this line stand apart by another delimiter; for a line of Excel's."""
    if re.fullmatch(r"sep=.\s*", line):
        raise UserError(f"{place}: this line tells Excel the delimiter: delete it, and say --delimiter")
    counts = {one: len(next(csv.reader([line], delimiter=one), [])) for one in {delimiter: "", **DELIMITERS}}
    other = max(counts, key=counts.get)
    if counts[delimiter] <= 1 < counts[other]:
        raise UserError(
            f"{place}: {DELIMITERS.get(delimiter, delimiter)} does not part the names of columns, "
            f"{DELIMITERS[other]} does: --delimiter {DELIMITERS[other]} (a name that holds it is written in quotes)"
        )


def _names(cells: list[str], name: str) -> list[str]:
    """Of the columns, each another: what has no name, or that of an earlier one, is given one."""
    names: list[str] = []
    for number, cell in enumerate(cells):
        plain = unused = cell or f"Unnamed: {number}"
        count = 0
        while unused in names or (count and unused in cells):
            count += 1
            unused = f"{plain}.{count}"
        names.append(unused)
    if changed := [new for given, new in zip(cells, names, strict=True) if given != new]:
        note(f"{visible(name)} has columns without a name of their own, here {visible(', '.join(changed))}")
    return names
