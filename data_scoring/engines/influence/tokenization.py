"""The first two steps: corpus and target set as samples, and which rows of the corpus are annotated.

tokenize   corpus/ target/ scorer/   samples as tokens (data_common/models/samples.py)
proxy      rows.npy                  the rows that are annotated
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_common.calls import remote_code
from data_common.files.atomic import save_array
from data_common.files.work_folder import WorkFolder
from data_common.messages.errors import UserError
from data_common.models import special_tokens
from data_common.models.samples import Samples, copy_samples, load_samples, write_samples
from data_common.models.special_tokens import Special
from data_common.models.token_cache import tokenizer_identity
from data_common.models.tokens import check_ids
from data_common.rows.json_line import Text, document_text
from data_common.rows.jsonl import open_source, read_rows
from data_scoring.engines.influence.models import Models
from data_scoring.engines.influence.settings import Influence, Target


@dataclass(frozen=True)
class Tokenized:
    """Samples that have a token to predict."""

    corpus: Samples
    target: Samples
    scorer: Samples  # the corpus as the data scorer reads it
    spelled: dict[str, int]  # how many rows spell special tokens


def tokenize(texts: Sequence[str], settings: Influence, models: Models, fits: bool, work: WorkFolder) -> Tokenized:
    """The corpus and the target set as samples. fits: whether a data scorer will read the corpus too.

    Raises: UserError where one of both has no token to predict, or a token that the annotator does not know.
    """
    own = fits and not models.shares_samples()
    sampling, target, folder = settings.sampling, settings.target, work.path / "tokenize"
    identity = {"max_length": sampling.max_length, "long_rows": sampling.long_rows, "target_size": target.target_size}
    identity |= {"target_field": target.fields, "seed": settings.seed} | reading(settings, models.special)
    identity |= {"scorer_max_length": settings.scorer_max_length} if own else {}
    after = [*corpus_inputs(settings), "annotator_model", "target_data", *(["scorer_model"] if own else [])]

    def write(folder: Path) -> dict[str, Any]:
        annotator, tokenizer = models.annotator, models.tokenizer
        wanted = target_texts(target, settings.seed)
        write_samples(folder / "target", wanted, tokenizer, sampling.max_length, "cut", len(texts), "tokenizing target")
        spelled = special_tokens.Spelled(tokenizer, models.special)
        shape = {"long_rows": sampling.long_rows, "total": len(texts)}
        length = sampling.max_length
        write_samples(folder / "corpus", spelled(texts), tokenizer, length, name="tokenizing corpus", **shape)
        if own:
            _write_for_scorer(folder, texts, settings, models)
        corpus, goal = predictable(folder / "corpus", tokenizer), predictable(folder / "target", tokenizer)
        if not len(goal) or not len(corpus):
            raise UserError(f"{'target set' if len(corpus) else 'corpus'}: no row has a token to predict")
        check_ids(goal, tokenizer, annotator, "target sample")
        check_ids(corpus, tokenizer, annotator, "sample")
        facts = {"samples": len(corpus), "tokens": int(corpus.lengths.sum()), "target_samples": len(goal)}
        return facts | spelled.facts()

    facts = work.step("tokenize", identity, after, write, alone=True)
    corpus, goal = (predictable(folder / name, models.tokenizer) for name in ("corpus", "target"))
    scorer = predictable(folder / "scorer", models.scorer_tokenizer) if own else corpus
    return Tokenized(corpus, goal, scorer, facts)


def _write_for_scorer(folder: Path, texts: Sequence[str], settings: Influence, models: Models) -> None:
    """The corpus as the data scorer reads it, where that is not how the annotator does."""
    same = tokenizer_identity(models.tokenizer) == tokenizer_identity(models.scorer_tokenizer)
    if same and settings.scorer_max_length == settings.sampling.max_length:
        copy_samples(folder / "corpus", folder / "scorer")
        return
    shape = {"max_length": settings.scorer_max_length, "long_rows": settings.sampling.long_rows, "total": len(texts)}
    write_samples(folder / "scorer", texts, models.scorer_tokenizer, name="tokenizing for scorer", **shape)


def tokenize_for(
    texts: Sequence[str], settings: Influence, tokenizer, special: Special, shape: dict[str, Any], work: WorkFolder
) -> tuple[Samples, dict[str, int]]:
    """The corpus as a fitted data scorer reads it, and how many rows spell special tokens.

    shape: max_length and long_rows of that one.
    """

    def write(folder: Path) -> dict[str, Any]:
        spelled = special_tokens.Spelled(tokenizer, special)
        named = {"total": len(texts), "name": "tokenizing corpus"}
        write_samples(folder / "scorer", spelled(texts), tokenizer, **shape, **named)
        return spelled.facts()

    after = (*corpus_inputs(settings), "scorer_checkpoint")
    facts = work.step("tokenize", shape | reading(settings, special), after, write, alone=True)
    return predictable(work.path / "tokenize" / "scorer", tokenizer), facts


def corpus_inputs(settings: Influence) -> tuple[str, ...]:
    """The inputs and steps that the texts come from."""
    return ("data", "reading", "chunk") if settings.chunks else ("data", "reading")


def reading(settings: Influence, special: Special) -> dict[str, Any]:
    """What the tokens depend on beside lengths and draws."""
    spelling = {} if settings.chunks else special_tokens.identity_of(special)
    return remote_code.identity(settings.loading.trust_remote_code) | spelling


def predictable(folder: Path, tokenizer) -> Samples:
    """Those with a token to predict; mostly all, and then nothing is copied."""
    samples = load_samples(folder, tokenizer)
    usable = samples.lengths >= 2
    return samples if usable.all() else samples.take(np.flatnonzero(usable))


def target_texts(target: Target, seed: int) -> list[str]:
    """The texts of the target set. Raises: UserError where it has none."""
    with open_source(target.target_data, key="target_data") as source:
        rows = read_rows(source, dict.fromkeys(target.fields, Text))
        texts = [text for _, _, values in rows if (text := document_text(values)).strip()]
    if not texts:
        raise UserError(f"target_data {target.target_data} holds no text")
    chosen = np.random.default_rng(seed).permutation(len(texts))[: target.target_size]
    return texts if target.target_size is None else [texts[number] for number in chosen]


def draw_proxy(rows: np.ndarray, size: int, seed: int, work: WorkFolder) -> np.ndarray:
    """A uniform sample of `size` of the rows that have samples, ascending; all where there are no more.

    rows: of each sample, (samples,).
    """

    def draw(folder: Path) -> dict[str, int]:
        drawn = np.unique(rows)
        if len(drawn) > size:
            drawn = np.sort(np.random.default_rng(seed).choice(drawn, size, replace=False))
        save_array(folder / "rows.npy", drawn)
        return {"rows": len(drawn)}

    work.step("proxy", {"proxy_size": size, "seed": seed}, ("tokenize",), draw, alone=True)
    return np.load(work.path / "proxy" / "rows.npy")


def of_rows(samples: Samples, rows: np.ndarray) -> Samples:
    """Only the samples of these rows."""
    return samples.take(np.flatnonzero(np.isin(samples.rows, rows)))


def weighted_mean(values: np.ndarray, samples: Samples, rows: int) -> np.ndarray:
    """The values of the samples of each row, averaged by predicted tokens, (rows,); NaN for a row without samples."""
    if np.array_equal(samples.rows, np.arange(rows)):  # one sample a row: its very value, free of rounding
        return values.astype(np.float64)
    weights = samples.lengths - 1
    total = np.bincount(samples.rows, weights, rows)
    sums = np.bincount(samples.rows, values * weights, rows)
    return np.divide(sums, total, out=np.full(rows, np.nan), where=total > 0)
