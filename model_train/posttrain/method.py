"""Instruction tuning from trained weights: the loss is on the answers only.

Post-training of DELT (arXiv 2506.21545): mathematics and code, with models of the Qwen1.5-0.5B and 1.8B class.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
from msgspec import Meta

from data_common.calls.stage import REPOSITORY
from data_common.chat.formats import Name
from data_common.chat.reading import check_fields, reader_of
from data_common.files.manifest import fingerprint
from data_common.messages.errors import UserError
from data_common.models.special_tokens import special_names
from data_common.rows.json_line import BadRow
from model_train.lora import Lora
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
        format: of the rows: instruct (and text); prompt (and response); messages (role and content of each turn);
            alpaca (instruction, input, output); dolly (instruction, context, response); prompt-completion (texts, or
            lists of turns); sharegpt (conversations of from and value); auto = by the fields of the first row
        form: older name of format
        fields: the rows' own names of such fields, as {prompt: question, response: answer}
        learn: all answers of a conversation, or the last one only
        separator: between prompt and answer where the tokenizer has no chat template
        ignored_fields: fields of a row or a turn that are left out, where training would stop as it cannot use them;
            also roles (system, tool) whose turns are
        on_shortened_answer: where the chat template leaves out or rewrites a part of an answer (its thinking, say):
            error makes it a bad row, learn takes what is left of it and counts it
    """

    reads_whole_rows: ClassVar[bool] = True

    format: Name = "auto"
    form: Literal["auto", "instruct", "prompt", "messages"] = "auto"
    fields: dict[str, str] | None = None
    learn: Literal["all", "last"] = "all"
    separator: str = "\n"
    ignored_fields: str | list[str] | None = None
    on_shortened_answer: Literal["error", "learn"] = "error"
    lora: Lora = field(default_factory=Lora)
    from_scratch: Literal["auto"] | bool = False
    learning_rate: Annotated[float, Meta(gt=0)] | None = 1e-5
    warmup_steps: Rate = 0.03

    def __post_init__(self):
        super().__post_init__()
        if self.format not in ("auto", self.form) and self.form != "auto":
            raise UserError(f"form={self.form} is the older name of format={self.format}: leave out one of them")
        check_fields(self._format(), self.fields or {})
        if self.lora.lora_rank is not None:
            others = {"average": self.averaging.average != "none", "chunked_loss": self.chunked_loss}
            others |= {"fsdp": self.fsdp, "deepspeed": self.deepspeed}
            others |= {"continue_from": self.continuation.continue_from}
            if name := next((name for name, given in others.items() if given), None):
                raise UserError(f"lora_rank and {name} do not go together: leave out one of them")

    def reading(self, source):
        """The turns of a row, in the format that is asked for or that the first row has."""
        reader = reader_of(source, self._format(), self.fields)
        code = [fingerprint(str(path))["xxh3"] for path in sorted((REPOSITORY / "data_common/chat").glob("*.py"))]
        identity = {"format": reader.name, "max_length": self.max_length, "separator": self.separator, "code": code}
        identity |= {"ignored_fields": sorted(self._ignored()), "on_shortened_answer": self.on_shortened_answer}
        return {reader.name: reader}, identity | {"named_fields": self.fields, "learn": self.learn}

    def told(self, identity):
        """The format of the rows."""
        return {"format": identity["format"]}

    def encoder(self, tokenizer):
        """Conversations that have an answer within max_length tokens."""
        from data_common.chat import conversations, fields

        conversations.chat_tokenizer(tokenizer)  # before several threads want it

        def texts(values, row):
            try:
                chat = fields.conversation(values.turns, values.rest(row), self._ignored())
                chat = chat.with_last() if self.learn == "last" else chat
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
        from data_common.chat import conversations
        from data_common.chat.whole import Shortened

        try:
            return conversations.encode_all(chat, tokenizer, self.separator), []
        except Shortened:
            if self.on_shortened_answer == "error":
                raise
        return conversations.encode_all(chat, tokenizer, self.separator, shortened=True), [SHORTENED]

    def adapted(self, model):
        """With low-rank adapters, where they are asked for."""
        return self.lora.adapted(model, self.seed)

    def merged(self, model, folder):
        """Without them: their products are added to the weights."""
        return self.lora.merged(model, folder)

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

    def _format(self) -> str:
        return self.form if self.format == "auto" else self.format

    def _ignored(self) -> list[str]:
        return [self.ignored_fields] if isinstance(self.ignored_fields, str) else self.ignored_fields or []


def _named(ids, tokenizer) -> str:
    return ", ".join(str(tokenizer.convert_ids_to_tokens(one)) for one in ids)
