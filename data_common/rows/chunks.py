"""A corpus cut into chunks as in the DELT paper (arXiv 2506.21545): documents joined by EOS, cut at sentence ends."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import msgspec
import numpy as np

from data_common.calls.progress import Progress
from data_common.files.atomic import atomic_file
from data_common.messages.errors import UserError
from data_common.models.tokens import ENCODE_BATCH, batched, special_tokens

Document = tuple[str | int, str]  # source id, text

CLOSING = r"""["'”’»)\]}」』）】》〉]"""  # noqa: RUF001
LINE_END = r"[\n\r\u2028\u2029]"
# A sentence ends behind its full stop and closing marks, or with its line. Spaces go with the word after them, line
# ends with the line before them: as tokenizers group them, so that few tokens change at a cut.
SENTENCE_END = re.compile(
    rf"(?:[.!?…؟۔।]{CLOSING}*(?=\s)|[。！？｡]+{CLOSING}*|{LINE_END})(?:\s*{LINE_END})?"  # noqa: RUF001
)


def write_chunks(
    documents: Iterable[Document], tokenizer, max_length: int, path: Path, total: int | None = None
) -> int:
    """Write the chunks of `cut_chunks` as JSON lines `{"id": number, "source_ids": [...], "text": ...}`.

    A chunk of white space alone, which a cut without a sentence end can leave, is left out: nothing to score.
    documents: none of them blank. total: number of documents, for the progress bar only.
    -> number of chunks. Raises: UserError, as `cut_chunks`.
    """
    progress = Progress(documents, "chunking", total, unit="text")
    encoder, count = msgspec.json.Encoder(), 0
    with progress, atomic_file(path) as partial, open(partial, "wb") as file:
        for source_ids, text in cut_chunks(progress, tokenizer, max_length):
            if text.strip():
                file.write(encoder.encode({"id": count, "source_ids": source_ids, "text": text}) + b"\n")
                count += 1
    return count


def cut_chunks(documents: Iterable[Document], tokenizer, max_length: int) -> Iterator[tuple[list[str | int], str]]:
    """(ids of the documents it has text of, text) of each chunk; never more than a batch of documents in memory.

    A chunk holds at most `max_length` tokens as a row of its own (BOS and EOS counted), checked by encoding it. It
    ends at the last document or sentence end up to the place where the tokens of its documents, as they stand there,
    reach that many; a text without such a place is cut right there, between two characters. Within a chunk documents
    are joined by the text of EOS (a newline for a tokenizer without). Nothing is lost: the chunks of a
    document, one after the other, are its text exactly.

    Raises: UserError for a slow tokenizer, or where `max_length` does not hold a single character.
    """
    if not tokenizer.is_fast:
        raise UserError(f"chunks need a fast tokenizer (tokenizer.json), which {tokenizer.name_or_path} has not")
    room = max(0, max_length - sum(map(len, special_tokens(tokenizer))))
    rest: list[Document] = []
    group = 1  # chunks encoded at once: doubled as long as no cut has to move
    for batch in chain(batched(documents, ENCODE_BATCH), [[]]):
        stretch = _Stretch(rest + batch, tokenizer)
        begin = 0
        while spans := stretch.spans(begin, room, group, last=not batch):
            encodings = _encode([stretch.text[start:stop] for start, stop in spans], tokenizer)
            for (start, stop), encoding in zip(spans, encodings, strict=True):
                if start != begin:
                    break  # a cut before it has moved
                while len(encoding) > room:  # a part can take more tokens alone than within its document
                    stop = stretch.cut(begin, begin + _reach(_token_ends(encoding), room))
                    [encoding] = _encode([stretch.text[begin:stop]], tokenizer)
                yield stretch.source_ids(begin, stop), stretch.text[begin:stop]
                begin = stretch.after(stop)
            as_planned = begin == stretch.after(spans[-1][1])
            group = min(2 * group, ENCODE_BATCH) if as_planned else 1
        rest = stretch.rest(begin)


class _Stretch:
    """Some documents joined to one text; where its tokens end and where it may be cut. All places are characters."""

    def __init__(self, documents: Sequence[Document], tokenizer):
        self.documents = documents
        texts = [text for _, text in documents]
        joint = tokenizer.eos_token or "\n"
        self.text = joint.join(texts)
        lengths = np.array([len(text) for text in texts], np.int64)
        self.stops = np.cumsum(lengths + len(joint)) - len(joint)  # of the documents
        self.starts = self.stops - lengths
        self.joint = len(joint)
        token_ends, cuts = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for start, text, encoding in zip(self.starts, texts, _encode(texts, tokenizer), strict=True):
            token_ends += [start + _token_ends(encoding), [start + len(text) + self.joint]]
            cuts += [start + np.array(_sentence_ends(text), np.int64), [start + len(text)]]
        self.token_ends = np.concatenate(token_ends)[:-1]  # no joint behind the last document
        self.cuts = np.concatenate(cuts)

    def spans(self, begin: int, room: int, count: int, last: bool) -> list[tuple[int, int]]:
        """Up to `count` chunks from `begin` on, as [start, stop), by the tokens of the documents.

        last: whether there are no more documents, so that a chunk with room left ends here.
        """
        spans: list[tuple[int, int]] = []
        while begin < len(self.text) and len(spans) < count:
            token_ends = self.token_ends[np.searchsorted(self.token_ends, begin, side="right") :]
            full = len(token_ends) > room
            if not full and not last:
                break
            stop = self.cut(begin, _reach(token_ends, room) if full else len(self.text))
            spans.append((begin, stop))
            begin = self.after(stop)
        return spans

    def cut(self, begin: int, limit: int) -> int:
        """Where the chunk from `begin` ends: at the last end of a sentence or document up to `limit`, else there."""
        if limit <= begin:
            document = self.source_ids(begin, begin + 1)[0]
            raise UserError(f"max_length does not hold the character {self.text[begin]!r} of document {document}")
        cuts = self.cuts[: np.searchsorted(self.cuts, limit, side="right")]
        return int(cuts[-1]) if len(cuts) and cuts[-1] > begin else limit

    def after(self, stop: int) -> int:
        """Where the next chunk begins: the joint of two documents belongs to neither chunk."""
        document = np.searchsorted(self.stops, stop)
        return stop + self.joint if document < len(self.stops) and self.stops[document] == stop else stop

    def source_ids(self, begin: int, stop: int) -> list[str | int]:
        """Ids of the documents with text in [begin, stop)."""
        first = np.searchsorted(self.stops, begin, side="right")
        return [source_id for source_id, _ in self.documents[first : np.searchsorted(self.starts, stop)]]

    def rest(self, begin: int) -> list[Document]:
        """The documents from `begin` on, the first of them what is left of it."""
        first = np.searchsorted(self.stops, begin, side="right")
        return [
            (source_id, text[max(0, begin - start) :])
            for (source_id, text), start in zip(self.documents[first:], self.starts[first:].tolist(), strict=True)
        ]


def _sentence_ends(text: str) -> list[int]:
    """Places in a document to cut it at; more than white space follows each of them."""
    last = len(text.rstrip())
    return [match.end() for match in SENTENCE_END.finditer(text, 0, last) if match.end() < last]


def _encode(texts: Sequence[str], tokenizer) -> list:
    """The `tokenizers.Encoding` of each text, without special tokens around it."""
    return tokenizer(list(texts), add_special_tokens=False, verbose=False).encodings if texts else []


def _token_ends(encoding) -> np.ndarray:
    """(tokens,) where each token ends in the text; all tokens of one character end with it."""
    ends = np.fromiter((end for _, end in encoding.offsets), np.int64, len(encoding))
    return np.maximum.accumulate(ends)  # bisected, and no tokenizer promises the order


def _reach(token_ends: np.ndarray, room: int) -> int:
    """End of the last character that the first `room` tokens hold whole, of more tokens than that; 0 for none."""
    whole = np.searchsorted(token_ends[: room + 1], token_ends[room])
    return int(token_ends[whole - 1]) if whole else 0
