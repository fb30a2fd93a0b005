"""The annotator and the data scorer of one call: each is loaded once, when it is first wanted."""

from functools import cached_property

import torch

from data_common.models import loading
from data_common.models.special_tokens import Special
from data_common.models.traits import check
from data_scoring.engines.influence import data_scorer
from data_scoring.engines.influence.settings import Influence


class Models:
    """What `settings` name, with the tokenizers."""

    def __init__(self, settings: Influence, special: Special):
        """special: how text that spells special tokens is read."""
        self.settings, self.special, self.trusted = settings, special, settings.loading.trust_remote_code

    @cached_property
    def tokenizer(self):
        """Of the annotator."""
        return loading.load_tokenizer(self.settings.annotator_model, self.trusted, self.special)

    @cached_property
    def scorer_tokenizer(self):
        """Of the data scorer that is fitted."""
        if self.settings.scorer_model == self.settings.annotator_model:
            return self.tokenizer
        return loading.load_tokenizer(self.settings.scorer_model, self.trusted, self.special)

    @cached_property
    def annotator(self) -> torch.nn.Module:
        """On its device. Raises: UserError where it cannot be loaded, or has fewer positions than max_length."""
        settings, keys = self.settings, self.settings.loading
        precision = "float32" if keys.dtype == "bfloat16" else keys.dtype
        options = {"trust_remote_code": self.trusted, "default": "float32", "attention": keys.attention}
        model = loading.load_on_device(settings.annotator_model, self.tokenizer, keys.device, precision, **options)
        check(model, settings.sampling.max_length)
        return model

    def release_annotator(self) -> None:
        """Its parameters were changed, and its memory is wanted by others."""
        self.__dict__.pop("annotator", None)

    @cached_property
    def new_scorer(self) -> tuple[data_scorer.DataScorer, object]:
        """The data scorer before it is fitted, on the CPU, and the tokenizer that is saved with it."""
        settings = self.settings
        return data_scorer.new(settings.scorer_model, settings.scorer_max_length, settings.seed, self.trusted)

    def shares_samples(self) -> bool:
        """Whether annotator and data scorer read the same samples."""
        same_length = self.settings.scorer_max_length == self.settings.sampling.max_length
        return same_length and self.scorer_tokenizer is self.tokenizer
