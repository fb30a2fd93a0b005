"""Text of a chat to tokens: marks of the template are special tokens, what the content spells like one is text.

In the rendered text both look the same. So the conversation is rendered a second time with a rare character in place
of each letter of such a spelling: where it comes out is content. The text is then encoded as one, so that tokens join
as in any text, by a tokenizer that knows the marks of the template under other names.
"""

import copy
import itertools
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from tokenizers import AddedToken

from data_common.messages.errors import UserError
from data_common.models.special_tokens import KEY, Spelled, read_as, special_names
from data_common.rows.json_line import BadRow

Span = tuple[int, int]  # [begin, end), in characters
Tokens = tuple[list[int], list[bool]]  # ids, and which of them are learned; (length,) each
RARE = range(0x13000, 0x13400)  # Egyptian hieroglyphs: no case, no blanks, printable
STAND_INS = 0x100000  # private characters, one for each special token
FLAGS = ("lstrip", "rstrip", "single_word", "normalized")  # how an added token is looked for


class ChatTokenizer:
    """Encodes rendered text. It does not change once it is made: several threads may use it."""

    def __init__(self, tokenizer):
        """tokenizer: its `split_special_tokens` says whether content that spells special tokens is text."""
        self.fast, self.text_stays = tokenizer.is_fast, tokenizer.split_special_tokens
        self.spelled = Spelled(tokenizer, "text" if self.text_stays else "tokens")
        self.joined = copy.deepcopy(tokenizer)
        read_as(self.joined, "tokens")
        if self.fast:  # all that its post-processor would still do is to leave blanks out of the offsets
            self.joined.backend_tokenizer.post_processor = None
        self.marks = set(tokenizer.convert_tokens_to_ids(special_names(tokenizer)))  # ids of the special tokens
        self.stand_ins: dict[str, str] = {}  # special token -> an ordinary one of the same length
        self.meant: dict[int, int] = {}  # id of such an ordinary token -> of the special one
        if self.fast and self.text_stays:
            self.apart = self._with_stand_ins()

    def _with_stand_ins(self):
        apart, names = copy.deepcopy(self.joined), special_names(self.joined)
        self.stand_ins = {name: chr(STAND_INS + number) * len(name) for number, name in enumerate(names)}
        known = {str(token): token for token in apart.added_tokens_decoder.values()}
        flags = {name: {flag: getattr(known.get(name), flag, False) for flag in FLAGS} for name in names}
        apart.add_tokens([AddedToken(other, **flags[name]) for name, other in self.stand_ins.items()])
        ids = [apart.convert_tokens_to_ids(list(kind)) for kind in (self.stand_ins.values(), self.stand_ins)]
        self.meant = dict(zip(*ids, strict=True))
        read_as(apart, "text")
        return apart

    def quotes(self, content: Any) -> bool:
        """Whether content, or any text in it, spells a special token and is to stay text."""
        return self.text_stays and self.spelled.first(content) is not None

    def spelled_in(self, content: str, offset: int) -> list[Span]:
        """Where content that begins at this offset spells special tokens that are to stay text."""
        found = self.spelled.pattern.finditer(content) if self.text_stays else ()
        return [(offset + match.start(), offset + match.end()) for match in found]

    def encode(self, text: str, answers: Sequence[Span], quoted: Sequence[Span] = ()) -> Tokens:
        """The tokens of a text. answers: what is learned of it. quoted: spellings of special tokens that are content.

        A token that holds any character of an answer is learned, but for a special one that begins before it: a mark
        of its opening may take the blanks behind it.
        Raises: UserError for a tokenizer without offsets; BadRow where it does not find the special tokens.
        """
        if not self.fast:
            raise UserError("a chat template needs a tokenizer with tokenizer.json: answers are found by characters")
        ids, places = self._with_offsets(text, quoted)
        return ids, [in_answer(place, answers, one in self.marks) for one, place in zip(ids, places, strict=True)]

    def encode_pair(self, prompt: str, answer: str, quoted: Sequence[Span]) -> Tokens:
        """The tokens of prompt and answer as one text; else as in `encode`. Where the tokenizer tells no offsets, those
        are learned that the prompt alone does not begin with.
        """
        if self.fast:
            return self.encode(prompt + answer, [(len(prompt), len(prompt + answer))] if answer else [], quoted)
        options = {"add_special_tokens": False, "verbose": False, "split_special_tokens": bool(quoted)}
        before, ids = (self.joined(text, **options)["input_ids"] for text in (prompt, prompt + answer))
        same = common_start(before, ids)
        return ids, [place >= same for place in range(len(ids))]

    def _with_offsets(self, text: str, quoted: Sequence[Span]) -> tuple[list[int], list[Span]]:
        """-> (token ids, their characters in the text), (length,) each."""
        tokenizer, (text, marks) = (self.apart, self._marked(text, quoted)) if quoted else (self.joined, (text, 0))
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        if sum(one in self.meant for one in encoded["input_ids"]) != marks:
            raise BadRow(f"its tokenizer does not find the template's special tokens ({KEY}=tokens may)")
        return [self.meant.get(one, one) for one in encoded["input_ids"]], encoded["offset_mapping"]

    def _marked(self, text: str, quoted: Sequence[Span]) -> tuple[str, int]:
        """-> (the text with stand-ins for all special tokens that are not quoted, how many)."""
        if any(0 <= ord(character) - STAND_INS < len(self.stand_ins) for character in text):
            raise BadRow(f"it spells special tokens, and holds private characters (U+{STAND_INS:X} and above)")
        parts, done, marks = [], 0, 0
        for begin, end in [*quoted, (len(text), len(text))]:
            part, found = self.spelled.pattern.subn(lambda match: self.stand_ins[match[0]], text[done:begin])
            parts += [part, text[begin:end]]
            done, marks = end, marks + found
        return "".join(parts), marks

    def quoted_in(self, text: str, render: Callable[[Callable[[Any], Any]], str]) -> list[Span]:
        """Where in a rendered text content spells special tokens.

        render: what is done to content -> the text that is rendered of it.
        Raises: BadRow where the template renders something else for that.
        """
        rare = next((chr(code) for code in RARE if chr(code) not in text), "")
        other = render(lambda content: changed(content, self.spelled.pattern, rare))
        if len(other) != len(text) or any(one not in (rare, same) for one, same in zip(other, text, strict=True)):
            raise BadRow(f"the chat template looks into content for special tokens ({KEY}=tokens takes them for such)")
        return [match.span() for match in re.finditer(f"{rare}+", other)]


def in_answer(place: Span, answers: Sequence[Span], is_mark: bool) -> bool:
    """Whether a token at this place belongs to an answer: it holds a character of it, a mark begins in it."""
    first, last = place[0], max(place[1] - 1, place[0])
    return any(first < end and (first if is_mark else last) >= begin for begin, end in answers)


def common_start(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many of their first items, or characters, are the same."""
    if other[: len(one)] == one:
        return len(one)
    return sum(itertools.takewhile(bool, map(operator.eq, one, other)))


def changed(value: Any, pattern: re.Pattern[str], character: str) -> Any:
    """The same with this character in place of each that matches, also inside of lists and objects."""
    if isinstance(value, str):
        return pattern.sub(lambda match: character * len(match[0]), value)
    if isinstance(value, dict):
        return {name: changed(part, pattern, character) for name, part in value.items()}
    return [changed(part, pattern, character) for part in value] if isinstance(value, list) else value
