"""Builds the study's data: chunks of equal length, split by document, free of 13-word overlap with what is held out.

Files: model/ (tokenizer and untrained model), warm.jsonl (of the warm starts), pool.jsonl (what the arms train on),
target-NAME.jsonl, heldout/NAME.jsonl, curve.jsonl (a sample of the held-out chunks, for the loss curves),
reference.jsonl (for the n-gram model) and data.json: counts and a hash of all files. The same input gives the same
bytes.
"""

import hashlib
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

import utils
from benchmarks.efficacy import sources
from benchmarks.efficacy.plan import Sizes
from data_common.embedded import tiny_model
from model_eval.contamination import grams

SEED = 0
HELDOUT_CHUNKS, CORPUS_CHUNKS = 16, 128  # of one document, at most
LEARNED = 3_000_000  # characters that the tokenizer learns from, over all kinds


def chunks(text: str, tokenizer, length: int) -> Iterator[str]:
    """Cut a document at white space into pieces that fill `length` tokens but for part of a word; the rest is lost."""
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    starts = [start for start, _ in offsets]
    gaps = np.array([*(gap.start() for gap in re.finditer(r"\s+", text)), len(text)])
    begin = 0
    while (first := int(np.searchsorted(starts, begin))) + length < len(starts):
        after = int(np.searchsorted(gaps, starts[first + length], "right"))
        if after > 0 and gaps[after - 1] > begin:
            yield text[begin : gaps[after - 1]].strip()
            begin = int(gaps[after - 1])
        else:  # a word longer than a chunk
            begin = int(gaps[after])


class Documents:
    """Chunks of documents in a random order, handed out from the front; a document goes to one taker."""

    def __init__(self, texts: Iterable[str], tokenizer, length: int, random: np.random.Generator):
        texts = list(texts)
        self.left = iter([(int(number), texts[number]) for number in random.permutation(len(texts))])
        self.tokenizer, self.length, self.random = tokenizer, length, random

    def take(self, count: int, per_document: int, forbidden: set[int]) -> list[tuple[str, str]]:
        """(name, text) of `count` chunks without a 13-gram of `forbidden`. Raises: ValueError where there are fewer."""
        taken: list[tuple[str, str]] = []
        while len(taken) < count:
            number, text = next(self.left, (None, None))
            if number is None:
                raise ValueError(f"{count - len(taken)} of {count} chunks are missing")
            pieces = list(enumerate(chunks(text, self.tokenizer, self.length)))
            chosen = self.random.permutation(len(pieces))[:per_document]
            good = (pieces[place] for place in sorted(chosen))
            taken += [
                (f"{number}-{place}", piece) for place, piece in good if forbidden.isdisjoint(grams(piece).tolist())
            ]
        return taken[:count]


def build(given: sources.Sources, folder: Path, sizes: Sizes) -> None:
    """Write all files of the study into `folder`."""
    random = np.random.default_rng(SEED)
    write(folder / "documents.jsonl", ({"text": text} for kind in given.kinds for text in head(kind)))
    tiny_model.build(folder / "model", str(folder / "documents.jsonl"))
    tokenizer = tiny_model.PreTrainedTokenizerFast.from_pretrained(folder / "model")
    length = sizes.chunk_tokens - 2  # BOS and EOS
    stock = {kind.name: Documents(kind.documents(), tokenizer, length, random) for kind in given.kinds}
    heldout = {
        kind.name: stock[kind.name].take(kind.heldout, HELDOUT_CHUNKS, set()) for kind in given.kinds if kind.heldout
    }
    forbidden = seen(heldout.values())
    targets = {}
    for name, source in given.targets.items():
        documents = stock[source] if isinstance(source, str) else Documents(source(), tokenizer, length, random)
        targets[name] = documents.take(sizes.target, CORPUS_CHUNKS, forbidden)
        if not isinstance(source, str):
            heldout[name] = documents.take(sizes.heldout_target, HELDOUT_CHUNKS, seen([targets[name]]))
    forbidden = seen([*heldout.values(), *targets.values()])
    rows = []
    for kind in given.kinds:
        taken = stock[kind.name].take(round(kind.share * (sizes.warm + sizes.pool)), CORPUS_CHUNKS, forbidden)
        same = {"kind": kind.name, "quality": kind.quality, "planted": int(kind.quality == "planted")}
        rows += [{"id": f"{kind.name}-{name}", "text": text, **same} for name, text in taken]
    rows = [rows[place] for place in random.permutation(len(rows))]
    write(folder / "warm.jsonl", rows[: sizes.warm])
    write(folder / "pool.jsonl", rows[sizes.warm :])
    for name, taken in targets.items():
        write(folder / f"target-{name}.jsonl", as_rows(name, taken))
    for name, taken in heldout.items():
        write(folder / "heldout" / f"{name}.jsonl", as_rows(name, taken))
    sample = [row for name, taken in heldout.items() for row in as_rows(name, taken[:: max(1, len(taken) // 12)])]
    write(folder / "curve.jsonl", sample)
    forbidden = seen(heldout.values())
    reference = (text for text in given.reference() if forbidden.isdisjoint(grams(text).tolist()))
    write(folder / "reference.jsonl", ({"text": text} for text in reference))
    (folder / "data.json").write_text(json.dumps(describe(folder, rows), indent=1) + "\n", encoding="utf-8")


def head(kind: sources.Kind) -> Iterator[str]:
    """The first characters of documents of a kind, by its share: what the tokenizer learns from. No planted junk."""
    left = 0 if kind.quality == "planted" else int(kind.share * LEARNED)
    for text in kind.documents() if left else ():
        yield text[: min(left, 4000)]
        left -= min(len(text), 4000)
        if left <= 0:
            return


def seen(parts: Iterable[Sequence[tuple[str, str]]]) -> set[int]:
    """Hashes of all runs of 13 words of chunks."""
    return {found for part in parts for _, text in part for found in grams(text).tolist()}


def as_rows(kind: str, taken: Iterable[tuple[str, str]]) -> list[dict]:
    return [{"id": f"{kind}-{name}", "text": text} for name, text in taken]


def write(path: Path, rows: Iterable[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def describe(folder: Path, rows: Sequence[dict]) -> dict:
    """Counts by kind, and one hash over all data files."""
    counts, digest = defaultdict(int), hashlib.sha256()
    for row in rows:
        counts[row["kind"]] += 1
    files = sorted(path for path in folder.rglob("*.json*") if path.name != "data.json" and "scored" not in path.parts)
    for path in files:
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return {"sha256": digest.hexdigest(), "chunks": dict(counts), "files": len(files)}


def source(name: str, folder: Path) -> sources.Sources:
    """`real`, or `embedded`, whose texts are made in `folder`. Raises: SystemExit where real text is not there."""
    if name == "embedded":
        made = folder / "python-stdlib"
        if utils.main(["--content", "dataset", "--id", "python-stdlib", "--save-dir", str(made)]):
            sys.exit(2)
        return sources.embedded(made)
    if "DELT_DATA" not in os.environ:
        sys.exit("error: DELT_DATA does not name the folder of real text; `embedded` needs none")
    return sources.real(Path(os.environ["DELT_DATA"]))
