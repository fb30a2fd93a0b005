"""Rows of JSON files as lines, each as it is spelled in the file: numbers, escapes and order stay what they are."""

import codecs
import io
import json
import re
from collections.abc import Iterator

from data_common.messages.errors import UserError

BLOCK = 2**20  # bytes that are read at a time
LONGEST_TOKEN = 16  # characters: one that ends with a block may go on in the next
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
BLANKS = re.compile(r"[ \t\r\n]*")
LINE_END = re.compile(r"[ \t]*[\r\n][ \t\r\n]*")  # between two tokens: in a string JSON has none
# Only the place where a value ends is wanted: numbers of any length are not converted.
DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


def json_lines(file: io.BufferedReader, name: str) -> Iterator[bytes]:
    """The lines of a file, unread, without line ends, blank ones and a byte order mark; of a list as `json_rows`."""
    if file.peek(BLOCK).removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"["):
        yield from json_rows(file, name)
        return
    for number, line in enumerate(file):
        line = line.removeprefix(BYTE_ORDER_MARK) if number == 0 else line
        if line.strip():
            yield line.rstrip(b"\r\n")


def json_rows(file: io.BufferedReader, name: str) -> Iterator[bytes]:
    """One line for each item of a list, or for each of the objects that stand one after another, on lines or across.

    Line ends inside a row become blanks. An item of a list that is no object is the `text` of its row. Only one row and
    a block of the file are in memory. Raises: UserError `FILE:LINE: reason` for what is no JSON.
    """
    values = _Values(file, name)
    for row in values.items() if values.next_character() == "[" else values.objects():
        row = LINE_END.sub(" ", row) if "\n" in row or "\r" in row else row
        yield (row if row[0] == "{" else f'{{"text": {row}}}').encode()


class _Values:
    """JSON values of a text that is read block by block."""

    def __init__(self, file: io.BufferedReader, name: str):
        self.file, self.name, self.decoder = file, name, codecs.getincrementaldecoder("utf-8-sig")()
        self.text, self.position, self.line = "", 0, 1  # line: the one with which `text` begins

    def more(self) -> bool:
        """Whether the text goes on; what was passed is forgotten."""
        self.line += self.text.count("\n", 0, self.position)
        self.text, self.position = self.text[self.position :], 0
        block = self.file.read(max(BLOCK, len(self.text)))
        try:
            self.text += self.decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            line = self.line + self.text.count("\n") + error.object.count(b"\n", 0, error.start)
            raise UserError(f"{self.name}:{line}: invalid UTF-8") from None
        return bool(block)

    def fault(self, reason: str, position: int) -> UserError:
        """reason, with the place."""
        return UserError(f"{self.name}:{self.line + self.text.count(chr(10), 0, position)}: {reason}")

    def next_character(self) -> str:
        """The next one that is no blank, which is not passed; empty at the end."""
        while True:
            self.position = BLANKS.match(self.text, self.position).end()
            if self.position < len(self.text):
                return self.text[self.position]
            if not self.more():
                return ""

    def value(self) -> str:
        """The value that begins here, which is passed."""
        while True:
            try:
                _, end = DECODER.raw_decode(self.text, self.position)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos > len(self.text) - LONGEST_TOKEN
                distance = error.pos - self.position
                if not (cut and self.more()):
                    reason = f"broken JSON: {error.msg.removesuffix(' at')}"
                    raise self.fault(reason, self.position + distance) from None
                continue
            except RecursionError:
                raise self.fault("nested too deeply", self.position) from None
            if end < len(self.text) or not self.more():  # a number may go on
                found, self.position = self.text[self.position : end], end
                return found

    def items(self) -> Iterator[str]:
        """Of the list that begins here, behind which there is nothing."""
        self.position += 1
        separator = self.next_character()
        if separator != "]":
            yield self.value()
            while (separator := self.next_character()) == ",":
                self.position += 1
                self.next_character()
                yield self.value()
        if separator != "]":
            raise self.fault("broken JSON: no comma or ] behind an item", self.position)
        self.position += 1
        if self.next_character():
            raise self.fault("broken JSON: more behind the list", self.position)

    def objects(self) -> Iterator[str]:
        """One after another, up to the end."""
        while character := self.next_character():
            if character != "{":
                raise self.fault("broken JSON: neither an object nor a list of them", self.position)
            yield self.value()
