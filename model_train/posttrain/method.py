"""Instruction tuning from trained weights: the loss is on the answers only.

Post-training of DELT (arXiv 2506.21545): mathematics and code, with models of the Qwen1.5-0.5B and 1.8B class.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from msgspec import Meta

from data_common.files.manifest import fingerprint
from data_common.messages.errors import UserError
from data_common.models.special_tokens import special_names
from data_common.rows.json_line import BadRow
from model_train.training import BaseTraining, Encoded, Rate

ABOUT = {
    "family": "instruction tuning",
    "needs": "a trained model; rows of prompts and answers",
    "cost": "a forward and a backward pass",
    "formula": "paper",
}

VERSIONS = {
    3: "without a chat template prompt and answer are encoded as one text; with generation marks too, answers that are "
    "rendered differently later on are learned turn by turn; those that a template shortens are refused, unless "
    "on_shortened_answer=learn",
    2: "a token that begins before an answer and ends in it is learned, an answer of weight 0 is not; content that "
    "spells a special token is text, unless special_tokens_in_text=tokens",
}
SHORTENED = "rows_with_shortened_answers"
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
        on_shortened_answer: where the chat template leaves out or rewrites a part of an answer (its thinking, say):
            error makes it a bad row, learn takes what is left of it and counts it
    """

    reads_whole_rows: ClassVar[bool] = True

    form: Literal["auto", "instruct", "prompt", "messages"] = "auto"
    separator: str = "\n"
    ignored_fields: str | list[str] | None = None
    on_shortened_answer: Literal["error", "learn"] = "error"
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
        identity |= {"ignored_fields": sorted(self._ignored()), "on_shortened_answer": self.on_shortened_answer}
        return conversations.FORMS[form], identity

    def encoder(self, tokenizer):
        """Conversations that have an answer within max_length tokens."""
        from model_train.posttrain import conversations, fields

        conversations.chat_tokenizer(tokenizer)  # before several threads want it

        def texts(values, row):
            try:
                chat = fields.conversation(conversations.as_messages(values), row, self._ignored())
                if not conversations.has_answer(chat):
                    return Encoded([], ["rows_without_answer"])
                encoded, facts = self._tokens(chat, tokenizer)
            except BadRow as bad:
                return bad
            learnable = [conversations.learnable(*one, self.max_length) for one in encoded]
            if not any(learnable):
                return Encoded([], ["rows_without_answer"])
            facts += ["rows_of_several_texts"] * (len(encoded) > 1)
            # Those without a token to learn count as cut.
            return Encoded([short or whole for short, whole in zip(learnable, encoded, strict=True)], facts)

        return lambda batch: [texts(*one) for one in batch]

    def _tokens(self, chat, tokenizer):
        """-> (the tokens of each text of a conversation, under which names its row is counted)."""
        from model_train.posttrain import conversations
        from model_train.posttrain.whole import Shortened

        try:
            return conversations.encode_all(chat, tokenizer, self.separator), []
        except Shortened:
            if self.on_shortened_answer == "error":
                raise
        return conversations.encode_all(chat, tokenizer, self.separator, shortened=True), [SHORTENED]

    def warning(self, corpus, tokenizer, stops):
        """Where no answer ends with a token that the model stops at."""
        some = corpus.take(slice(TRIED))
        answers = [
            ids[corpus.loss_mask[start : start + len(ids)]] for start, ids in zip(some.starts, some, strict=True)
        ]
        if not stops or any(np.isin(answer, stops).any() for answer in answers):
            return ""
        said = f"no answer ends with EOS ({_named(stops, tokenizer)}): the model will not stop by itself"
        special = tokenizer.convert_tokens_to_ids(special_names(tokenizer))
        ends = Counter(int(marks[-1]) for answer in answers if len(marks := answer[np.isin(answer, special)]))
        cure = "eos_token_id in generation_config.json of MODEL_IN may list it"
        return said + (f"; they end with {_named([max(ends, key=ends.get)], tokenizer)} ({cure})" if ends else "")

    def sequences(self, corpus, max_tokens: int | None, epochs: float):
        """The conversations one by one."""
        from model_train.sequences import SeparateDocuments

        return SeparateDocuments(corpus, self.max_length, max_tokens, epochs)

    def _ignored(self) -> list[str]:
        return [self.ignored_fields] if isinstance(self.ignored_fields, str) else self.ignored_fields or []


def _named(ids, tokenizer) -> str:
    return ", ".join(str(tokenizer.convert_ids_to_tokens(one)) for one in ids)
