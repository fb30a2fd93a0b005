"""KenLM perplexity or bits: how surprising a document is to an n-gram model of good text (lower = more like it).

The filter of CCNet (Wenzek et al., LREC 2020, https://aclanthology.org/2020.lrec-1.494), with models that KenLM loads
(Heafield, WMT 2011, https://aclanthology.org/W11-2123) or with one trained here on a text of your own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from data_common.calls.config import Positive, Seed
from data_common.calls.progress import Progress
from data_common.files.atomic import save_array
from data_common.files.work_folder import WorkFolder
from data_common.messages.errors import UserError
from data_common.models.tokens import batched
from data_common.parallel.parts import missing_parts
from data_common.parallel.processes import cores, forked_map
from data_common.rows.jsonl import open_source
from data_common.rows.texts import first_texts
from data_scoring.kenlm.language_model import (
    COLUMNS,
    Files,
    Scores,
    check_hub,
    download,
    files_of,
    is_hub_id,
    load_model,
    unknown_share,
)
from data_scoring.kenlm.normalization import PRESETS, Preset, Punctuation
from data_scoring.kenlm.tokenization import (
    LONG_WORD,
    Lines,
    Sentences,
    Tokenize,
    in_long_words,
    sentencepiece,
    words,
)
from data_scoring.scorer import BaseScorer

ABOUT = {
    "family": "n-grams",
    "needs": "an n-gram model, or text to train one",
    "cost": "n-gram look-ups",
    "formula": "exact",
}

Metric = Literal["ppl", "bpb", "bpc"]
PART = 1024  # texts scored and saved at a time: what a killed run loses, what processes share
PERPLEXITY_COLUMNS = 3  # of COLUMNS, which the metric ppl reads
SAMPLE = 100  # texts whose unknown tokens are counted
MANY_UNKNOWN = 0.5  # above this share of them, model and text hardly belong together
MUCH_IN_LONG_WORDS = 0.2  # of the characters; English web text and Brown have less than 0.005


class Scorer(BaseScorer):
    """Find or train a model, then score every row with it.

    Args:
        metric: what goes to score_field: ppl (perplexity per token, the paper's), bpb (bits per UTF-8 byte of the text,
            better to rank by) or bpc (bits per character)
        extra_metrics: further metrics, each written to a field of its own name
        model_path: ARPA or KenLM binary file; folder with <language>.arpa.bin and <language>.sp.model; or hub id
            (owner/name or owner/name/folder), which is downloaded; null = train one on train_data
        language: which model of a folder or hub id
        train_data: high-quality text to train a model on, where model_path is null; JSONL file, glob or folder
        train_field: text field(s) of train_data; a list is joined by newlines
        order: words of the longest n-grams of the trained model
        tokenizer: sentencepiece = pieces of a SentencePiece model; words = words and punctuation marks
        sentencepiece_model: its file; null = what lies beside the model (<language>.sp.model), or trained on train_data
        vocab_size: pieces of a trained SentencePiece model, at most
        tokenizer_sample: texts of train_data that it is trained on
        normalization: preset of the four keys that follow: ccnet (all on, ascii), edugp (digits and ascii) or none
        lowercase: lower case; null = as the preset
        strip_accents: drop accents (NFD marks); null = as the preset
        normalize_digits: every digit becomes 0; null = as the preset
        punctuation: ascii = Unicode punctuation becomes ASCII; remove = it becomes spaces; keep; null = as the preset
        lines: document = newlines are removed and a document is one sentence, as CCNet's mining does; per-line = each
            line that is not empty is a sentence, with an </s> of its own
        min_tokens: a text of fewer tokens is too short to have a score (on_short)
        worst_line_field: a further field, for the perplexity (whatever the metric) of the worst line of at least
            min_tokens tokens; null = none
        workers: processes; 0 = one for each core
        seed: of the sample that SentencePiece is trained on
    """

    higher_is_better = False

    def __init__(
        self,
        *,
        metric: Metric = "ppl",
        extra_metrics: list[Metric] | None = None,
        model_path: str | None = None,
        language: str = "en",
        train_data: str | None = None,
        train_field: str | list[str] = "text",
        order: Annotated[int, Meta(ge=2, le=6)] = 5,
        tokenizer: Literal["sentencepiece", "words"] = "sentencepiece",
        sentencepiece_model: str | None = None,
        vocab_size: Annotated[int, Meta(ge=16)] = 65536,
        tokenizer_sample: Positive = 100_000,
        normalization: Preset = "ccnet",
        lowercase: bool | None = None,
        strip_accents: bool | None = None,
        normalize_digits: bool | None = None,
        punctuation: Punctuation | None = None,
        lines: Lines = "document",
        min_tokens: Positive = 1,
        worst_line_field: str | None = None,
        workers: Annotated[int, Meta(ge=0, le=1024)] = 0,
        seed: Seed = 0,
    ):
        super().__init__()
        if model_path is None and train_data is None:
            raise UserError("neither model_path nor train_data is set")
        if worst_line_field is not None and lines == "document":
            raise UserError("worst_line_field needs lines=per-line: with lines=document there is one line")
        own = {
            "lowercase": lowercase,
            "strip_accents": strip_accents,
            "normalize_digits": normalize_digits,
            "punctuation": punctuation,
        }
        given = {name: value for name, value in own.items() if value is not None}
        self.normalization = replace(PRESETS[normalization], **given)
        self.model_path, self.language = model_path, language
        self.train_data, self.train_field, self.order = train_data, train_field, order
        self.tokenizer = tokenizer
        self.sentencepiece_model = sentencepiece_model if tokenizer == "sentencepiece" else None
        self.vocab_size, self.tokenizer_sample = vocab_size, tokenizer_sample
        self.lines, self.min_tokens, self.worst_line_field = lines, min_tokens, worst_line_field
        self.workers, self.seed = workers or cores(), seed
        self.metric, self.extra_metrics = metric, extra_metrics or []
        self.extra_directions = self._further_fields()

    def _further_fields(self) -> dict[str, Literal["higher", "lower"]]:
        """Each field beside the score -> "lower". Raises: UserError where one is written twice."""
        if self.metric in self.extra_metrics:
            raise UserError(f"extra_metrics: {self.metric} is the metric already")
        if self.worst_line_field in self.extra_metrics:
            raise UserError(f"worst_line_field={self.worst_line_field}: extra_metrics writes a field of that name")
        worst_line = [] if self.worst_line_field is None else [self.worst_line_field]
        return dict.fromkeys([*self.extra_metrics, *worst_line], "lower")

    def check(self, rows: int | None, directions: Mapping[str, str]) -> None:
        """Raises UserError for files that are missing, or a model that the hub does not have."""
        if self.sentencepiece_model is not None:
            sentencepiece(self.sentencepiece_model)
        if self.model_path is None:
            with open_source(self.train_data, whole=False, key="train_data") as source:
                first_texts(source, self.train_field)
        elif is_hub_id(self.model_path):
            check_hub(self.model_path, self.language)
        else:
            self._with_tokenizer(files_of(self.model_path, self.language))

    def inputs(self) -> dict[str, str]:
        """The files of the model, or its hub id; or what one is trained on."""
        if self.model_path is None:
            inputs = {"train_data": self.train_data, "sentencepiece_model": self.sentencepiece_model}
        elif is_hub_id(self.model_path):
            inputs = {"model": f"{self.model_path}:{self.language}", "sentencepiece_model": self.sentencepiece_model}
        else:
            files = self._with_tokenizer(files_of(self.model_path, self.language))
            inputs = {"model": files.model, "sentencepiece_model": files.sentencepiece}
        return {name: path for name, path in inputs.items() if path is not None}

    def score(self, texts: Sequence[str], work: WorkFolder) -> np.ndarray:
        """The metric of every text, (n,); NaN for one of fewer than min_tokens tokens."""
        files = self._files(work)
        made_from = ["language_model"] if self.model_path is None else [*self.inputs()]
        columns = len(COLUMNS) if {self.metric, *self.extra_metrics} - {"ppl"} else PERPLEXITY_COLUMNS
        folder = work.path / "score"
        parts = [_part(folder, start) for start in range(0, len(texts), PART)]

        def compute(folder: Path) -> dict[str, Any]:
            model = load_model(files.model)
            tokenize = words if files.sentencepiece is None else sentencepiece(files.sentencepiece)
            scores = Scores(self.sentences(tokenize), model, self.min_tokens)
            first = next(batched(texts, SAMPLE))
            unknown = unknown_share(model, scores.sentences, first)
            if unknown > MANY_UNKNOWN:
                print(f"warning: the model does not know {unknown:.0%} of the first tokens: another tokenizer?")
            facts = {"unknown_tokens": round(unknown, 4)}
            if self.tokenizer == "words":
                facts["in_long_words"] = round(in_long_words(chain.from_iterable(map(scores.sentences, first))), 4)
            self._score_parts(scores, texts, folder, columns)
            return facts

        self.facts |= self.reading()
        identity = self.reading() | {"min_tokens": self.min_tokens}
        self.facts |= work.step("score", identity, ["data", "reading", *made_from], compute)
        if (share := self.facts.get("in_long_words", 0)) > MUCH_IN_LONG_WORDS:
            self.warnings.append(
                f"{share:.0%} of the text is in words of more than {LONG_WORD} characters: a language without spaces "
                "between words is ranked at chance by words; tokenizer=sentencepiece cuts it into pieces"
            )
        if not all(_holds(part, columns) for part in parts):
            print("score: an older version kept perplexities alone; the texts are read once more")
            compute(folder)
        found = np.concatenate([np.load(part)[:, :columns] for part in parts])
        perplexity, worst, tokens, *measured = found.T
        self.facts |= {"tokens": int(tokens.sum())}
        values = {"ppl": perplexity}
        if measured:
            bits, size, characters = measured
            values |= {"bpb": bits / size, "bpc": bits / characters}
        self.extra = {name: values[name] for name in self.extra_metrics}
        if self.worst_line_field is not None:
            self.extra[self.worst_line_field] = worst
        return values[self.metric]

    def sentences(self, tokenize: Tokenize) -> Sentences:
        """How documents are read."""
        return Sentences(self.normalization, self.lines, tokenize)

    def reading(self) -> dict[str, Any]:
        """What decides how documents are read, beside the SentencePiece model."""
        return {"normalization": asdict(self.normalization), "lines": self.lines, "tokenizer": self.tokenizer}

    def _files(self, work: WorkFolder) -> Files:
        if self.model_path is None:
            from data_scoring.kenlm.training import train

            return train(self, work)
        path = download(self.model_path, self.language) if is_hub_id(self.model_path) else self.model_path
        return self._with_tokenizer(files_of(path, self.language))

    def _with_tokenizer(self, files: Files) -> Files:
        """The files with the SentencePiece model that the keys ask for. Raises: UserError if they are missing."""
        pieces = None if self.tokenizer == "words" else self.sentencepiece_model or files.sentencepiece
        if self.tokenizer == "sentencepiece" and pieces is None:
            raise UserError(f"{files.model} comes without .sp.model: set sentencepiece_model=..., or tokenizer=words")
        return Files(files.model, pieces)

    def _score_parts(self, scores: Scores, texts: Sequence[str], folder: Path, columns: int) -> None:
        """Score and save the parts that are not there yet, or have fewer columns."""

        def scored(part: tuple[Path, list[str]]) -> tuple[Path, np.ndarray]:
            return part[0], scores(part[1])

        def holds(part: Path) -> bool:
            return _holds(part, columns)

        files = [_part(folder, start) for start in range(0, len(texts), PART)]
        done = sum(min(PART, len(texts) - number * PART) for number, file in enumerate(files) if holds(file))
        with Progress(desc="scoring", total=len(texts), initial=done, unit="text") as progress:
            for path, values in forked_map(scored, missing_parts(files, batched(texts, PART), holds), self.workers):
                save_array(path, values)
                progress.update(len(values))


def _holds(part: Path, columns: int) -> bool:
    """Whether the part is there, with so many columns: older versions saved the first three alone."""
    return part.exists() and np.load(part, mmap_mode="r").shape[1] >= columns


def _part(folder: Path, start: int) -> Path:
    return folder / f"part-{start // PART:06}.npy"
