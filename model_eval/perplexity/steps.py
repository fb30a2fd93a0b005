"""One model, or one of its checkpoints, on every corpus: each in a step of its own that is skipped when done before."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_common.calls import remote_code
from data_common.files.manifest import fingerprint
from data_common.files.work_folder import WorkFolder
from data_common.models import loading
from data_common.models.likelihood import TokenLogProbabilities
from data_common.models.settings import attention_identity
from data_common.models.special_tokens import Special, identity_of
from data_common.models.tokens import check_ids
from data_common.models.traits import check
from data_common.parallel import distributed
from data_common.rows.texts import Texts
from model_eval.items import digest, items_of, save_items
from model_eval.perplexity.loss import Corpus, statistics


class Steps:
    """Results on all corpora; they are tokenized once, by the tokenizer of the model."""

    def __init__(
        self,
        model: str,
        texts: Mapping[str, Texts],
        max_length: int,
        batch_tokens: int,
        device: str,
        dtype: loading.Dtype,
        attention: str = "sdpa",
        special: Special = "text",
        trust_remote_code: bool = False,
    ):
        """texts: by name of the corpus. Raises: UserError where one has no token to predict."""
        self.tokenizer, self.trusted = loading.load_tokenizer(model, trust_remote_code, special), trust_remote_code
        self.corpora = [Corpus(name, found, self.tokenizer, special) for name, found in texts.items()]
        self.attention, self.reading = attention, attention_identity(attention) | identity_of(special)
        self.reading |= remote_code.identity(trust_remote_code)
        self.device = loading.pick_device(device)
        self.dtype = loading.pick_dtype(dtype, self.device)
        self.max_length, self.batch_tokens = max_length, batch_tokens

    def results(
        self,
        work: WorkFolder,
        path: str,
        prefix: str,
        after: tuple[str, ...],
        reading: Mapping[str, Any],
        drawing: Mapping[str, int],
    ) -> dict[str, dict[str, Any]]:
        """The result of each corpus, by its name. path: folder with the weights.

        prefix: of the steps' names. after: the inputs that stand for `path`; none: its content does.
        reading: how rows became texts. drawing: iterations and seed of the bootstrap.
        Raises: UserError where the model cannot be loaded or has too few positions.
        """
        network = self._network(path)
        found = {}
        for corpus in self.corpora:
            shards = [fingerprint(shard.name)["xxh3"] for shard in corpus.texts.source.shards]
            keys = {"data": shards, "max_length": self.max_length, "dtype": str(self.dtype), **reading, **drawing}
            keys |= self.reading | ({} if after else {"weights": fingerprint(path)["xxh3"]})

            def measure(folder: Path, corpus: Corpus = corpus) -> dict[str, Any]:
                nats = corpus.nats(network, self.max_length, self.batch_tokens)
                items = items_of(list(corpus.texts), nats / np.log(2), corpus.bytes)
                if distributed.is_main():
                    save_items(folder, items)
                result = statistics(nats, corpus.predicted, corpus.bytes, **drawing)
                dropped = sum(corpus.texts.source.dropped.values()) + int(corpus.texts.blank.sum())
                result |= {"max_length": self.max_length, "items": digest(items), "dropped_rows": dropped}
                return result | corpus.spelled.facts()

            found[corpus.name] = work.step(f"{prefix}{corpus.name}", keys, after, measure)
        return found

    def _network(self, path: str) -> TokenLogProbabilities:
        options = {"dtype": self.dtype, "attn_implementation": self.attention, "trust_remote_code": self.trusted}
        model = loading.load_model(path, self.tokenizer, **options).to(self.device)
        longest = max(int(corpus.documents.lengths.max()) for corpus in self.corpora)
        check(model, min(self.max_length, longest))
        for corpus in self.corpora:
            check_ids(corpus.documents, self.tokenizer, model, f"{corpus.name}: row")
        return TokenLogProbabilities(model)
