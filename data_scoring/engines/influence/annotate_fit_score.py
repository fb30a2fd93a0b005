"""The steps from a corpus to scores: tokenize -> proxy -> annotate -> measures -> fit -> score, each in its own folder.

tokenize   corpus/ target/ scorer/   samples as tokens (data_common/models/samples.py)
proxy      rows.npy                  the rows that are annotated
annotate   gamma.npy sweep/          their scores; what every visited step gave
measures                             what these scores go along with
fit        scorer/ fit.png fit.json  the data scorer and how well it predicts
score      part-00000.npy ...        the prediction for every sample
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data_common.calls import remote_code
from data_common.calls.progress import Progress
from data_common.files.atomic import save_array
from data_common.files.work_folder import WorkFolder, remove
from data_common.messages.errors import UserError
from data_common.messages.visible import visible
from data_common.models import loading, special_tokens
from data_common.models.samples import Samples, load_samples, write_samples
from data_common.models.settings import attention_identity
from data_common.models.tokens import check_ids
from data_common.models.traits import check
from data_common.parallel import distributed
from data_common.rows.json_line import Text, document_text
from data_common.rows.jsonl import open_source, read_rows
from data_scoring.engines.influence import data_scorer
from data_scoring.engines.influence.annotation import annotate
from data_scoring.engines.influence.checks import check_scorer
from data_scoring.engines.influence.fitting import fit
from data_scoring.engines.influence.measures import measure
from data_scoring.engines.influence.reliability import judged
from data_scoring.engines.influence.scorer import InfluenceScorer

PART = 2048  # samples predicted and saved at a time: what a killed run loses, what processes share


class Steps:
    """One corpus on its way through the steps."""

    def __init__(self, keys: InfluenceScorer, texts: Sequence[str], work: WorkFolder):
        self.keys, self.texts, self.work, self.trusted = keys, texts, work, keys.trust_remote_code
        self.corpus_inputs = ("data", "reading", *(["chunk"] if keys.granularity == "chunk" else []))
        self.fits = len(texts) > keys.proxy_size  # else every row is annotated, and a data scorer has nothing to add

    def run(self) -> np.ndarray | None:
        """The score of every text, (n,); None where the user's `step` comes before there are scores."""
        if self.keys.scorer_checkpoint is not None:
            return self._with_checkpoint(self.keys.scorer_checkpoint)
        if self.fits:  # what is wrong with it is better known now than after the annotation
            check_scorer(self.keys)
        steps = {"tokenize": self._tokenize, "proxy": self._proxy, "annotate": self._annotate}
        for name, step in (steps | ({"fit": self._fit} if self.fits else {})).items():
            step()
            if name == self.keys.step:
                return None
        if not self.fits:
            if self.keys.step == "fit":
                return None
            print(f"proxy_size holds all {len(self.texts):,} rows: their annotation is the score")
            return self._row_scores()
        checkpoint = str(self.work.path / "fit" / "scorer")
        self.keys.facts |= {"scored_by": checkpoint}
        scorer, tokenizer, _ = data_scorer.load(checkpoint, self.trusted)
        check_ids(self._scorer_samples(), tokenizer, scorer.backbone, "sample")
        return self._score(scorer, self._scorer_samples(), self.keys.scorer_max_length, ("tokenize", "fit"))

    def _with_checkpoint(self, checkpoint: str) -> np.ndarray | None:
        """Tokenize and score only, as the fitted data scorer wants it."""
        scorer, tokenizer, facts = data_scorer.load(checkpoint, self.trusted)
        special_tokens.read_as(tokenizer, self.keys.special)
        shape = data_scorer.shape_of(checkpoint, facts)
        print(f"scoring with {visible(checkpoint)}: {facts}")

        def write(folder: Path) -> dict[str, Any]:
            spelled = special_tokens.Spelled(tokenizer, self.keys.special)
            self._write(folder / "scorer", spelled(self.texts), tokenizer, **shape, name="tokenizing corpus")
            return spelled.facts()

        step_keys, after = shape | self._reading(), (*self.corpus_inputs, "scorer_checkpoint")
        tokenized = self.work.step("tokenize", step_keys, after, write, alone=True)
        self.keys.tell_spelled(tokenized, len(self.texts))
        if self.keys.step in ("tokenize", "proxy", "annotate", "fit"):
            return None
        self.keys.facts |= {"scored_by": checkpoint, "data_scorer": facts}
        self._judge(facts)
        samples = _predictable(load_samples(self.work.path / "tokenize" / "scorer", tokenizer))
        check_ids(samples, tokenizer, scorer.backbone, "sample")
        return self._score(scorer, samples, facts["max_length"], ("tokenize", "scorer_checkpoint"))

    # tokenize

    @cached_property
    def tokenizer(self):
        """Of the annotator."""
        return loading.load_tokenizer(self.keys.annotator_model, self.trusted, self.keys.special)

    @cached_property
    def scorer_tokenizer(self):
        """Of the data scorer to be fitted."""
        if self.keys.scorer_model == self.keys.annotator_model:
            return self.tokenizer
        return loading.load_tokenizer(self.keys.scorer_model, self.trusted, self.keys.special)

    def _shares_samples(self) -> bool:
        """Whether annotator and data scorer read the same samples."""
        same_length = self.keys.scorer_max_length == self.keys.max_length
        return same_length and self.scorer_tokenizer is self.tokenizer

    def _tokenize(self) -> None:
        keys = self.keys
        own = self.fits and not self._shares_samples()
        identity = {name: getattr(keys, name) for name in ("max_length", "long_rows", "target_size")}
        identity |= {"target_field": keys.target_fields, "seed": keys.seed} | self._reading()
        identity |= {"scorer_max_length": keys.scorer_max_length} if own else {}
        after = [*self.corpus_inputs, "annotator_model", "target_data", *(["scorer_model"] if own else [])]

        def write(folder: Path) -> dict[str, Any]:
            annotator = loading.load_model(keys.annotator_model, self.tokenizer, trust_remote_code=self.trusted)
            check(annotator, keys.max_length)
            target = self._target_texts()
            shape = {"max_length": keys.max_length, "long_rows": keys.long_rows}
            self._write(folder / "target", target, self.tokenizer, keys.max_length, "cut", "tokenizing target")
            spelled = special_tokens.Spelled(self.tokenizer, keys.special)
            self._write(folder / "corpus", spelled(self.texts), self.tokenizer, **shape, name="tokenizing corpus")
            if own:
                shape["max_length"] = keys.scorer_max_length
                self._write(folder / "scorer", self.texts, self.scorer_tokenizer, **shape, name="tokenizing for scorer")
            corpus, target = self._samples("corpus"), self._samples("target")
            if not len(target) or not len(corpus):
                raise UserError(f"{'target set' if len(corpus) else 'corpus'}: no row has a token to predict")
            check_ids(target, self.tokenizer, annotator, "target sample")
            check_ids(corpus, self.tokenizer, annotator, "sample")
            facts = {"samples": len(corpus), "tokens": int(corpus.lengths.sum()), "target_samples": len(target)}
            return facts | spelled.facts()

        tokenized = self.work.step("tokenize", identity, after, write, alone=True)
        if keys.granularity == "row":  # chunks spell EOS on purpose
            keys.tell_spelled(tokenized, len(self.texts))

    def _reading(self) -> dict[str, Any]:
        """What the tokens depend on beside lengths and draws."""
        special = {} if self.keys.granularity == "chunk" else special_tokens.identity_of(self.keys.special)
        return remote_code.identity(self.trusted) | special

    def _write(self, folder: Path, texts: Iterable[str], tokenizer, max_length: int, long_rows: str, name: str) -> None:
        write_samples(folder, texts, tokenizer, max_length, long_rows, len(self.texts), name)

    def _samples(self, name: str) -> Samples:
        """The samples that have a token to predict."""
        tokenizer = self.scorer_tokenizer if name == "scorer" else self.tokenizer
        return _predictable(load_samples(self.work.path / "tokenize" / name, tokenizer))

    def _target_texts(self) -> list[str]:
        keys = self.keys
        with open_source(keys.target_data, key="target_data") as source:
            rows = read_rows(source, dict.fromkeys(keys.target_fields, Text))
            texts = [text for _, _, values in rows if (text := document_text(values)).strip()]
        if not texts:
            raise UserError(f"target_data {keys.target_data} holds no text")
        chosen = np.random.default_rng(keys.seed).permutation(len(texts))[: keys.target_size]
        return texts if keys.target_size is None else [texts[number] for number in chosen]

    # proxy

    def _proxy(self) -> None:
        def draw(folder: Path) -> dict[str, int]:
            rows = np.unique(self._samples("corpus").rows)
            if len(rows) > self.keys.proxy_size:
                generator = np.random.default_rng(self.keys.seed)
                rows = np.sort(generator.choice(rows, self.keys.proxy_size, replace=False))
            save_array(folder / "rows.npy", rows)
            return {"rows": len(rows)}

        identity = {"proxy_size": self.keys.proxy_size, "seed": self.keys.seed}
        self.work.step("proxy", identity, ("tokenize",), draw, alone=True)

    def _of_proxy(self, samples: Samples) -> Samples:
        """Only the samples of the annotated rows."""
        return samples.take(np.flatnonzero(np.isin(samples.rows, np.load(self.work.path / "proxy" / "rows.npy"))))

    # annotate

    def _annotate(self) -> None:
        keys = self.keys
        names = ("steps", "learning_rate", "batch_size", "interval", "hessian", "dtype")
        identity = {name: getattr(keys, name) for name in names} | keys.formula() | attention_identity(keys.attention)

        def compute(folder: Path) -> dict[str, Any]:
            path = folder / "gamma.npy"
            if not path.exists():  # else a run was killed behind it
                if self.fits:  # its weights too are better tried before the annotation
                    self._new_scorer()
                precision = "float32" if keys.dtype == "bfloat16" else keys.dtype
                options = {"trust_remote_code": self.trusted, "default": "float32", "attention": keys.attention}
                model = loading.load_on_device(keys.annotator_model, self.tokenizer, keys.device, precision, **options)
                check(model, keys.max_length)
                corpus, target = self._samples("corpus"), self._samples("target")
                gamma = annotate(keys, model, corpus, self._of_proxy(corpus), target, folder)
                if distributed.is_main():
                    save_array(path, gamma)
                distributed.wait()
            if distributed.is_main():
                remove(folder / "states")
            return {"annotated_samples": len(np.load(path))}

        keys.facts |= self.work.step("annotate", identity, ("tokenize", "proxy", "annotator_model"), compute)
        keys.facts |= measure(keys, self.texts, self._of_proxy(self._samples("corpus")), self.work)

    def _row_scores(self) -> np.ndarray:
        """The annotation of every row, (n,); NaN where it was not annotated."""
        samples = self._of_proxy(self._samples("corpus"))
        gamma = np.load(self.work.path / "annotate" / "gamma.npy")
        return weighted_mean(gamma, samples.lengths - 1, samples.rows, len(self.texts))

    # fit

    def _fit(self) -> None:
        keys = self.keys
        names = ("scorer_max_length", "scorer_epochs", "scorer_learning_rate", "scorer_batch_size", "seed", "dtype")

        def compute(folder: Path) -> dict[str, Any]:
            scorer, tokenizer = self._new_scorer()
            samples = self._of_proxy(self._scorer_samples())
            check_ids(samples, tokenizer, scorer.backbone, "sample")
            device = loading.pick_device(keys.device)
            facts = fit(
                scorer,
                samples,
                self._row_scores()[samples.rows],
                folder,
                epochs=keys.scorer_epochs,
                learning_rate=keys.scorer_learning_rate,
                batch_size=keys.scorer_batch_size,
                seed=keys.seed,
                device=device,
                precision=loading.pick_dtype(keys.dtype, device, "float32"),
                report_to=keys.report_to,
                project=keys.project,
            )
            if distributed.is_main():
                scorer.save(folder / "scorer", tokenizer, self._scorer_facts() | facts)
                remove(folder / "checkpoints")
            return {name: facts[name] for name in ("spearman", "pearson", "top_30_overlap", "best_epoch")}

        identity = {name: getattr(keys, name) for name in names}
        keys.facts |= self.work.step("fit", identity, ("annotate", "scorer_model"), compute)
        self._judge(json.loads((self.work.path / "fit" / "fit.json").read_text(encoding="utf-8")))

    def _judge(self, fitted: Mapping[str, Any]) -> None:
        """Tell how far the data scorer can be trusted; fitted: what fit.json holds."""
        facts, warnings = judged(fitted)
        self.keys.facts |= facts
        self.keys.warnings += warnings
        for warning in warnings if distributed.is_main() else ():
            print(f"warning: {warning}")

    def _new_scorer(self) -> tuple[data_scorer.DataScorer, Any]:
        return data_scorer.new(self.keys.scorer_model, self.keys.scorer_max_length, self.keys.seed, self.trusted)

    def _scorer_facts(self) -> dict[str, Any]:
        """What somebody needs to know who scores with this data scorer."""
        keys = self.keys
        names = ("annotator_model", "target_data", "steps", "learning_rate", "interval", "long_rows")
        method = type(keys).__module__.split(".")[1]
        facts = {"method": method, "max_length": keys.scorer_max_length} | {n: getattr(keys, n) for n in names}
        return facts | special_tokens.identity_of(keys.special)

    def _scorer_samples(self) -> Samples:
        return self._samples("corpus" if self._shares_samples() else "scorer")

    # score

    def _score(
        self, scorer: data_scorer.DataScorer, samples: Samples, max_length: int, after: Sequence[str]
    ) -> np.ndarray:
        """The prediction for every row, (n,); NaN for rows without a token to predict."""
        device = loading.pick_device(self.keys.device)
        precision = loading.pick_dtype(self.keys.dtype, device, "float32")
        batch_tokens = self.keys.scorer_batch_tokens
        if batch_tokens is None:
            batch_tokens = max_length if device.type == "cpu" else self.keys.batch_tokens
        parts = range(0, len(samples), PART)

        def compute(folder: Path) -> dict[str, Any]:
            autocast = precision if precision.itemsize == 2 else None
            network = scorer.to(device)
            missing = [
                first for first in parts[distributed.rank() :: distributed.size()] if not _part(folder, first).exists()
            ]
            total = sum(int(samples.lengths[first : first + PART].sum()) for first in missing)
            with Progress(desc="scoring", total=total, unit="token", unit_scale=True) as bar:
                for first in missing:
                    part = samples.take(np.arange(first, min(first + PART, len(samples))))
                    save_array(_part(folder, first), data_scorer.predict(network, part, batch_tokens, autocast, bar))
            return {"samples": len(samples)}

        self.work.step("score", {"batch_tokens": batch_tokens, "dtype": str(precision)}, after, compute)
        predictions = np.concatenate([np.load(_part(self.work.path / "score", first)) for first in parts])
        return weighted_mean(predictions, samples.lengths - 1, samples.rows, len(self.texts))


def weighted_mean(values: np.ndarray, weights: np.ndarray, row: np.ndarray, rows: int) -> np.ndarray:
    """Mean of the values of each row, (rows,); NaN for a row without values. values, weights, row: (samples,)."""
    if np.array_equal(row, np.arange(rows)):  # one sample a row: its very value, free of rounding
        return values.astype(np.float64)
    total = np.bincount(row, weights, rows)
    return np.divide(np.bincount(row, values * weights, rows), total, out=np.full(rows, np.nan), where=total > 0)


def _predictable(samples: Samples) -> Samples:
    """Those with a token to predict; mostly all, and then nothing is copied."""
    usable = samples.lengths >= 2
    return samples if usable.all() else samples.take(np.flatnonzero(usable))


def _part(folder: Path, first: int) -> Path:
    return folder / f"part-{first // PART:05}.npy"
