"""The model as lm-eval wants it: shared by the processes of NPROC, with batches that are halved until they fit.

What lm-eval leaves to the tokenizer is done here: every sequence has BOS in front exactly once, also one that is cut.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile
from typing import Any, Literal

import torch
from accelerate.utils.memory import should_reduce_batch_size
from lm_eval.models.huggingface import HFLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from transformers import LogitsProcessorList

from data_common.messages.errors import UserError
from data_common.models import loading
from data_common.models.tokens import special_tokens
from data_common.models.traits import check
from data_common.parallel import distributed
from model_eval.lm_evaluation_harness.chat import rendered, template_of
from model_eval.lm_evaluation_harness.generation import leave_room, refuse_no_number, settings_of_the_model

MOVED = "the chat template shows no system role: its words stand in front of the user's first ones"
FIRST = {"cpu": 16, "cuda": 256}  # sequences of a forward pass that `batch_size: auto` begins with


class LanguageModel(HFLM):
    """Every process evaluates the same tasks, but answers only its part of the requests; answers are then exchanged.

    So lm-eval sees the same answers in the same order, whatever the number of processes.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer,
        batch_size: int | Literal["auto"],
        add_bos_token: bool = True,
        max_length: int | None = None,
        template: str | None = None,
    ):
        """batch_size: sequences of a forward pass; auto begins with many, and halves where memory does not suffice.

        add_bos_token: texts start with BOS, where the tokenizer has one. max_length: None = as many as the model has.
        template: of conversations, which brings the BOS of prompts, as in training on conversations.
        """
        self.halving = batch_size == "auto"
        size = FIRST.get(model.device.type, 16) if batch_size == "auto" else batch_size
        start, end = special_tokens(tokenizer)
        prefix = [*start, *end][0]
        if not any((tokenizer.pad_token, tokenizer.unk_token, tokenizer.eos_token)):
            tokenizer.pad_token_id = prefix  # else lm-eval adds a token, for which the model has no embedding
        super().__init__(model, tokenizer=tokenizer, batch_size=size, max_length=max_length, prefix_token_id=prefix)
        self.template = template
        self.start = start if add_bos_token and template is None else []
        self.cut: set[int] = set()  # items of the present task whose prompt did not fit
        self.answer_tokens: int | None = None  # of the present task, where the prompts leave fewer than it wants
        self.notes: list[str] = []  # on the present task

    @property
    def eot_token_id(self) -> int:
        """What ends an answer; a tokenizer without EOS has BOS, which begins another text."""
        end = self.tokenizer.eos_token_id
        return self.prefix_token_id if end is None else end

    def begin_task(self) -> None:
        """Forget what was counted of the task before."""
        self.cut, self.answer_tokens, self.notes = set(), None, []

    def loglikelihood(self, requests: list, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """As of lm-eval."""
        return self._share(self._score_answers, requests, disable_tqdm)

    def loglikelihood_rolling(self, requests: list, disable_tqdm: bool = False) -> list[float]:
        """As of lm-eval, but that BOS stands once before the text."""
        return self._share(self._score_texts, requests, disable_tqdm)

    def generate_until(self, requests: list, disable_tqdm: bool = False) -> list[str]:
        """As of lm-eval, but that a prompt has at least half of the model's length before it is cut."""
        self._leave_room(requests)
        self.notes += settings_of_the_model(self.model.generation_config, requests)
        return self._share(super().generate_until, requests, disable_tqdm)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """As of lm-eval, but in the template that was asked for, and without losing what the system says."""
        options = {"add_generation_prompt": add_generation_prompt, "continue_final_message": not add_generation_prompt}
        render = partial(self.tokenizer.apply_chat_template, chat_template=self.template, tokenize=False, **options)
        text, moved = rendered(chat_history, render)
        if moved and MOVED not in self.notes:
            self.notes.append(MOVED)
        return text

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids of a text, with BOS in front unless add_special_tokens=False or the text brings its own."""
        ids = self.tokenizer(string, add_special_tokens=False, verbose=False)["input_ids"]
        if ids and max(ids) >= self.model.get_input_embeddings().weight.shape[0]:
            token = self.tokenizer.convert_ids_to_tokens(max(ids))
            raise UserError(f"a prompt or an answer holds the token {token}, of which the model has no embedding")
        missing = self.start if add_special_tokens is not False and ids[:1] != self.start else []
        return missing + ids

    def tok_batch_encode(
        self, strings: list[str], padding_side: str = "left", left_truncate_len: int | None = None, **_: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and attention mask, (texts, longest) each, padded on the left; `left_truncate_len` tokens at most.

        lm-eval asks the first text of a batch whether any of them brings its own BOS, and cuts BOS off first.
        """
        rows = [self._shorten(self.tok_encode(text) or [self.prefix_token_id], left_truncate_len) for text in strings]
        shape = (len(rows), max(map(len, rows)))
        ids, mask = torch.full(shape, self.tokenizer.pad_token_id), torch.zeros(shape, dtype=torch.long)
        for row, found in enumerate(rows):
            ids[row, -len(found) :], mask[row, -len(found) :] = torch.tensor(found), 1
        return ids, mask

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """As of lm-eval, but for parts without a token. A prompt without one is BOS, else EOS.

        Where prompt and answer become one token at the border, the answer begins with that token.
        Raises: UserError for an answer that is no token.
        """
        if context.strip():
            prompt, answer = super()._encode_pair(context, continuation)
        else:
            prompt, answer = [], self.tok_encode(context + continuation)
            answer = answer[1:] if answer[:1] == [self.prefix_token_id] else answer
        if not answer:
            whole = self.tok_encode(context + continuation)
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt, whole, strict=False)))
            prompt, answer = whole[:same], whole[same:]
        if not answer:
            raise UserError(f"an answer has no token of its own: {continuation!r} behind {context[-40:]!r}")
        return prompt or [self.prefix_token_id], answer

    def _score_answers(self, requests: list, disable_tqdm: bool) -> list[tuple[float, bool]]:
        pairs = [self._encode_pair(*request.args) for request in requests]
        long = (sum(map(len, pair)) > self.max_length + 1 for pair in pairs)
        self.cut |= {request.doc_id for request, is_long in zip(requests, long, strict=True) if is_long}
        texts = [request.args for request in requests]
        return self._loglikelihood_tokens(
            [(text, *pair) for text, pair in zip(texts, pairs, strict=True)], disable_tqdm=disable_tqdm
        )

    def _score_texts(self, requests: list, disable_tqdm: bool) -> list[float]:
        """Each token once, in windows that share one token; the first begins with BOS, else EOS."""
        windows, counts = [], []
        for request in requests:
            ids = self.tok_encode(request.args[0], add_special_tokens=False)
            ids = ids[1:] if ids[:1] == [self.prefix_token_id] else ids
            found = list(get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, context_len=1))
            windows += [(None, *make_disjoint_window(window)) for window in found]
            counts.append(len(found))
        values = iter(self._loglikelihood_tokens(windows, disable_tqdm=disable_tqdm))
        return [sum(next(values)[0] for _ in range(count)) for count in counts]

    def _loglikelihood_tokens(self, requests: list, *arguments: Any, **options: Any) -> list[tuple[float, bool]]:
        """Raises: UserError where an answer alone is too long, and where the model gives no finite number."""
        longest = max((len(answer) for _, _, answer in requests), default=0)
        if longest > self.max_length:
            raise UserError(f"an answer has {longest} tokens, more than the {self.max_length} that the model reads")
        room = self.max_length + 1  # the last token of an answer is predicted, but not read
        fitting = [(text, self._shorten(prompt, room - len(answer)), answer) for text, prompt, answer in requests]
        found = super()._loglikelihood_tokens(fitting, *arguments, **options)
        if broken := sum(not math.isfinite(value) for value, _ in found):
            raise UserError(
                f"the model gives log-likelihoods that are no finite numbers ({broken:,} of {len(found):,})"
            )
        return found

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **options: Any) -> torch.Tensor:
        """Raises: UserError where the model gives a logit that is no number."""
        check = LogitsProcessorList([refuse_no_number])
        return super()._model_generate(context, max_length, stop, logits_processor=check, **options)

    def _shorten(self, ids: Sequence[int], room: int | None) -> list[int]:
        """At most `room` tokens: cut from the left, behind BOS."""
        if room is None or len(ids) <= room:
            return list(ids)
        kept = [self.prefix_token_id] if ids[0] == self.prefix_token_id else []
        return kept + list(ids[len(ids) - room + len(kept) :])

    def _leave_room(self, requests: list) -> None:
        lengths = [len(self.tok_encode(request.args[0])) for request in requests]
        room, self.answer_tokens = leave_room(requests, max(lengths, default=0), self.max_length, self.max_gen_toks)
        self.cut |= {request.doc_id for request, length in zip(requests, lengths, strict=True) if length > room}

    def _share(self, answer: Callable, requests: list, disable_tqdm: bool) -> list:
        """Neighbours stay together: the choices of one item share a context, which is then read once."""
        first, stop = (
            len(requests) * rank // distributed.size() for rank in (distributed.rank(), distributed.rank() + 1)
        )
        mine = requests[first:stop]
        found = self._fit(lambda: answer(mine, disable_tqdm)) if mine else []
        self.cut = set(gathered(list(self.cut)))
        return gathered(found)

    def _fit(self, work: Callable[[], list]) -> list:
        """lm-eval takes the longest requests first, so that a batch that is too large fails at once."""
        while True:
            try:
                return work()
            except RuntimeError as error:
                if not (self.halving and self.batch_size_per_gpu > 1 and should_reduce_batch_size(error)):
                    raise
            self.batch_size_per_gpu //= 2  # outside of the handler, which keeps the failed batch in memory
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            print(f"out of memory: going on with batch_size {self.batch_size_per_gpu}")


def gathered(found: list) -> list:
    """The lists of all processes, one after the other."""
    if distributed.size() == 1:
        return found
    import torch.distributed as dist

    distributed.wait()
    parts: list = [None] * distributed.size()
    dist.all_gather_object(parts, found)
    return [answer for part in parts for answer in part]


def load_language_model(
    path: str,
    device: torch.device,
    dtype: torch.dtype,
    add_bos_token: bool,
    max_length: int | None,
    batch_size: int | Literal["auto"],
    trust_remote_code: bool = False,
    apply_chat_template: bool | str = False,
    attention: str = "sdpa",
) -> LanguageModel:
    """Raises: UserError where it cannot be loaded, has too few positions, sees later tokens, or lacks the template."""
    trust = {"trust_remote_code": trust_remote_code}
    tokenizer = loading.load_tokenizer(path, **trust)
    template = template_of(tokenizer, apply_chat_template, path)
    model = loading.load_model(path, tokenizer, dtype=dtype, attn_implementation=attention, **trust).to(device)
    network = LanguageModel(model, tokenizer, batch_size, add_bos_token, max_length, template)
    if not check(model, network.max_length).mixed_lengths and network.batch_size_per_gpu > 1:
        print("note: the model reads a row otherwise beside a longer one: batch_size=1 is taken")
        network.batch_size_per_gpu = 1
    return network
