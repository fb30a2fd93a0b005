"""Instruction tuning from trained weights: the loss is on the answers only.

Post-training of DELT (arXiv 2506.21545): mathematics and code, with models of the Qwen1.5-0.5B and 1.8B class.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from common.errors import UserError
from common.json_line import BadRow
from common.manifest import fingerprint
from model_train.base import BaseTraining, Rate


@dataclass(kw_only=True)
class Training(BaseTraining):
    """One conversation a sequence, in the order of the file; a row without a whole token of an answer is left out.

    Args:
        form: fields of a row: instruct and text; prompt and response; messages (role and content of each turn); auto =
            what the first row has
        separator: between prompt and answer where the tokenizer has no chat template
    """

    form: Literal["auto", "instruct", "prompt", "messages"] = "auto"
    separator: str = "\n"
    from_scratch: Literal["auto"] | bool = False
    learning_rate: Annotated[float, Meta(gt=0)] | None = 1e-5
    warmup_steps: Rate = 0.03

    def reading(self, source):
        """The fields of the form that the first row has."""
        from common.jsonl import first_row
        from model_train.posttrain import conversations

        form = self.form
        if form == "auto" and (form := conversations.form_of(first_row(source, "drop")[1])) is None:
            known = "; ".join(" and ".join(fields) for fields in conversations.FORMS.values())
            raise UserError(f"{source.path}: the first row has none of these fields: {known}")
        identity = {"form": form, "max_length": self.max_length, "separator": self.separator}
        return conversations.FORMS[form], identity | {"code": fingerprint(conversations.__file__)["xxh3"]}

    def encoder(self, tokenizer):
        """Conversations, cut to max_length tokens."""
        from model_train.posttrain import conversations

        def document(values):
            messages = conversations.as_messages(values)
            if not conversations.has_answer(messages):
                return "rows_without_answer"
            try:
                ids, learned = conversations.encode(messages, tokenizer, self.separator)
            except BadRow as bad:
                return bad
            return conversations.learnable(ids, learned, self.max_length) or "rows_without_answer"

        return lambda batch: list(map(document, batch))

    def sequences(self, corpus, max_tokens: int | None, epochs: float):
        """The conversations one by one."""
        from model_train.sequences import SeparateDocuments

        return SeparateDocuments(corpus, self.max_length, max_tokens, epochs)
