"""Token stores on disk: a corpus is encoded once for a tokenizer, in parallel, and mapped by every run after that.

An entry is a folder with `tokens.bin` (ids of all documents one after the other), `learned.bin` (one byte a token, only
where some tokens are not predicted), `index.bin` (three int64 a document: first token, number of tokens, offset of
its row in the source), `facts.json`, and `files.json`, which says what these files hold. It is found by all that the
tokens depend on.
"""

import contextlib
import inspect
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from data_common.files.atomic import read_json
from data_common.files.cache import cache_folder, trim
from data_common.files.contents import broken, seal
from data_common.files.durable import lock_file, publish
from data_common.messages.errors import UserError
from data_common.messages.visible import visible
from data_common.models import tokens
from data_common.models.tokens import TokenStore, memory_mapped, token_type
from data_common.rows.column_cache import reading_key
from data_common.rows.jsonl import Source

COLUMNS = 3
ROWS_BETWEEN_SIGNS = 2**16  # of life
LIMIT = 64 * 2**30  # bytes of all stores together: beyond it the least recently used ones go


class Document(NamedTuple):
    """A row as tokens."""

    offset: int  # of the row in the source
    ids: Sequence[int]  # (length,)
    loss_mask: Sequence[bool] | None = None  # (length,); None = all tokens


class Corpus(TokenStore):
    """Token store that knows the row of each document, the tokens that count in the loss, and facts of the rows."""

    def __init__(self, tokens: np.ndarray, index: np.ndarray, loss_mask: np.ndarray | None, facts: Mapping[str, Any]):
        """tokens: (all,). index: (n, 3), as in `index.bin`. loss_mask: (all,) bool, None = all tokens."""
        super().__init__(tokens, index[:, 0], index[:, 1])
        self.offsets, self.loss_mask, self.facts = index[:, 2], loss_mask, facts


def cached_corpus(
    source: Source,
    fingerprints: Sequence[Mapping[str, Any]],
    tokenizer,
    reading: Mapping[str, Any],
    documents: Callable[[dict[str, Any]], Iterable[Document]],
) -> Corpus:
    """The store of `source`, made unless an earlier run made it. Several processes may ask: one works, the others wait.

    fingerprints: of the shards. reading: all else that the tokens depend on (fields, policies, code).
    documents: facts -> the documents in the order of the file; it adds to the facts what it counts.
    Raises: UserError where the cache cannot be written, or `documents` does.
    """
    key = reading_key(source, fingerprints, [tokenizer_identity(tokenizer), reading], [tokens])
    folder = cache_folder("tokens")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with lock_file(folder / f".{key}.lock", f"another run is writing {folder}", wait=True):
            entry = folder / key
            if entry.exists() and (wrong := broken(entry)):
                print(f"note: the tokens in {visible(entry)} are made again: {wrong} is damaged")
                shutil.rmtree(entry)
            if not entry.exists():
                trim(folder, LIMIT)
                _write(entry, token_type(tokenizer), documents, lambda: source.check_unchanged(fingerprints))
            return _load(entry, token_type(tokenizer))
    except OSError as error:
        raise UserError(f"cannot keep tokens in {folder}: {error.strerror or error} (DELT_CACHE moves it)") from error


def tokenizer_identity(tokenizer) -> str:
    """Equal for tokenizers that give equal tokens, wherever they were loaded from."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else json.dumps([type(tokenizer).__name__, tokenizer.get_vocab()])
    special = [tokens.special_tokens(tokenizer), getattr(tokenizer, "chat_template", None)]
    if (module := type(tokenizer).__module__).startswith("transformers_modules"):  # code of its own, by its digest
        special.append([module, inspect.getsource(sys.modules[module])])
    return xxhash.xxh3_128((text + json.dumps(special)).encode()).hexdigest()


def _write(
    entry: Path,
    kind: type,
    documents: Callable[[dict[str, Any]], Iterable[Document]],
    unchanged: Callable[[], None],
) -> None:
    """Beside its place, brought to the disk, then renamed. unchanged: raises UserError where the source was changed."""
    work = entry.with_name(f".{entry.name}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    facts: dict[str, Any] = {}
    try:
        with contextlib.ExitStack() as stack:
            names = ("tokens.bin", "index.bin", "learned.bin")
            tokens_file, index, mask = (stack.enter_context(open(work / name, "wb")) for name in names)
            position = 0
            for number, document in enumerate(documents(facts)):
                if number % ROWS_BETWEEN_SIGNS == 0:
                    os.utime(work)  # or it would be taken for abandoned one day
                tokens_file.write(np.asarray(document.ids, kind).tobytes())
                index.write(np.array([position, len(document.ids), document.offset], np.int64).tobytes())
                if document.loss_mask is not None:
                    mask.write(np.asarray(document.loss_mask, bool).tobytes())
                position += len(document.ids)
        (work / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
        unchanged()
        seal(work)
        publish(work, entry)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _load(entry: Path, kind: type) -> Corpus:
    os.utime(entry)  # used last
    facts = read_json(entry / "facts.json")
    index = memory_mapped(entry / "index.bin", np.int64).reshape(-1, COLUMNS)
    loss_mask = memory_mapped(entry / "learned.bin", bool)
    return Corpus(memory_mapped(entry / "tokens.bin", kind), index, loss_mask if len(loss_mask) else None, facts)
