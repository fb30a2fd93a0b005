"""Instruction tuning from trained weights: the loss is on the answers only.

Post-training of DELT (arXiv 2506.21545): mathematics and code, with models of the Qwen1.5-0.5B and 1.8B class.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from msgspec import Meta

from data_common.files.manifest import fingerprint
from data_common.messages.errors import UserError
from data_common.rows.json_line import BadRow
from model_train.training import BaseTraining, Rate

ABOUT = {
    "family": "instruction tuning",
    "needs": "a trained model; rows of prompts and answers",
    "cost": "a forward and a backward pass",
    "formula": "paper",
}

VERSIONS = {
    2: "a token that begins before an answer and ends in it is learned, an answer of weight 0 is not; content that "
    "spells a special token is text, unless special_tokens_in_text=tokens"
}
TRIED = 100  # conversations that are searched for an EOS


@dataclass(kw_only=True)
class Training(BaseTraining):
    """One conversation a sequence, in the order of the file; a row without a whole token of an answer is left out.

    Args:
        form: fields of a row: instruct and text; prompt and response; messages (role and content of each turn); auto =
            what the first row has
        separator: between prompt and answer where the tokenizer has no chat template
        ignored_fields: fields of a row or a turn that are left out, where training would stop as it cannot use them;
            also roles (system, tool) whose turns are
    """

    reads_whole_rows: ClassVar[bool] = True

    form: Literal["auto", "instruct", "prompt", "messages"] = "auto"
    separator: str = "\n"
    ignored_fields: str | list[str] | None = None
    from_scratch: Literal["auto"] | bool = False
    learning_rate: Annotated[float, Meta(gt=0)] | None = 1e-5
    warmup_steps: Rate = 0.03

    def reading(self, source):
        """The fields of the form that the first row has."""
        from data_common.rows.jsonl import first_row
        from model_train.posttrain import conversations

        form = self.form
        if form == "auto" and (form := conversations.form_of(first_row(source, "drop")[1])) is None:
            known = "; ".join(" and ".join(fields) for fields in conversations.FORMS.values())
            raise UserError(f"{source.path}: the first row has none of these fields: {known}")
        code = [fingerprint(str(path))["xxh3"] for path in sorted(Path(__file__).parent.glob("*.py"))]
        identity = {"form": form, "max_length": self.max_length, "separator": self.separator, "code": code}
        return conversations.FORMS[form], identity | {"ignored_fields": sorted(self._ignored())}

    def encoder(self, tokenizer):
        """Conversations that have an answer within max_length tokens."""
        from model_train.posttrain import conversations, fields

        conversations.chat_tokenizer(tokenizer)  # before several threads want it

        def documents(values, row):
            try:
                chat = fields.conversation(conversations.as_messages(values), row, self._ignored())
                if not conversations.has_answer(chat):
                    return "rows_without_answer"
                encoded = conversations.encode_all(chat, tokenizer, self.separator)
            except BadRow as bad:
                return bad
            learnable = [conversations.learnable(*one, self.max_length) for one in encoded]
            if not any(learnable):
                return "rows_without_answer"
            return [short or whole for short, whole in zip(learnable, encoded, strict=True)]  # the others count as cut

        return lambda batch: [documents(*one) for one in batch]

    def corpus(self, rows, tokenizer):
        """Tells where no answer ends with EOS."""
        corpus, end = super().corpus(rows, tokenizer), tokenizer.eos_token_id
        some = corpus.take(slice(TRIED))
        places = [place + np.flatnonzero(ids == end) for place, ids in zip(some.starts, some, strict=True)]
        if end is not None and not corpus.learned[np.concatenate(places)].any():
            _tell_once(f"warning: no answer ends with EOS ({tokenizer.eos_token}): the model will not stop by itself")
        return corpus

    def sequences(self, corpus, max_tokens: int | None, epochs: float):
        """The conversations one by one."""
        from model_train.sequences import SeparateDocuments

        return SeparateDocuments(corpus, self.max_length, max_tokens, epochs)

    def _ignored(self) -> list[str]:
        return [self.ignored_fields] if isinstance(self.ignored_fields, str) else self.ignored_fields or []


_tell_once = functools.cache(print)
