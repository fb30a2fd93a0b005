"""The model as lm-eval wants it: shared by the processes of NPROC, with batches that are halved until they fit."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from accelerate.utils.memory import should_reduce_batch_size
from lm_eval.models.huggingface import HFLM

from common import models, world
from common.errors import UserError
from common.model_traits import check

FIRST = {"cpu": 16, "cuda": 256}  # sequences of a forward pass that `batch_size: auto` begins with


class LanguageModel(HFLM):
    """Every process evaluates the same tasks, but answers only its part of the requests; answers are then exchanged.

    So lm-eval sees the same answers in the same order, whatever the number of processes.
    """

    def __init__(self, model: torch.nn.Module, tokenizer, batch_size: int | Literal["auto"], **options: Any):
        """batch_size: sequences of a forward pass; auto begins with many, and halves where memory does not suffice."""
        self.halving = batch_size == "auto"
        size = FIRST.get(model.device.type, 16) if batch_size == "auto" else batch_size
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=size, **options)

    def loglikelihood(self, requests: list, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """As of lm-eval."""
        return self._share(super().loglikelihood, requests, disable_tqdm)

    def loglikelihood_rolling(self, requests: list, disable_tqdm: bool = False) -> list[float]:
        """As of lm-eval."""
        return self._share(super().loglikelihood_rolling, requests, disable_tqdm)

    def generate_until(self, requests: list, disable_tqdm: bool = False) -> list[str]:
        """As of lm-eval."""
        return self._share(super().generate_until, requests, disable_tqdm)

    def _loglikelihood_tokens(self, requests: list, *arguments: Any, **options: Any) -> list[tuple[float, bool]]:
        """Raises: UserError where an answer alone is too long, which lm-eval meets with a bare assertion."""
        longest = max((len(answer) for _, _, answer in requests), default=0)
        if longest > self.max_length:
            raise UserError(f"an answer has {longest} tokens, more than the {self.max_length} that the model reads")
        return super()._loglikelihood_tokens(requests, *arguments, **options)

    def _share(self, answer: Callable, requests: list, disable_tqdm: bool) -> list:
        """Neighbours stay together: the choices of one item share a context, which is then read once."""
        first, stop = (len(requests) * rank // world.size() for rank in (world.rank(), world.rank() + 1))
        mine = requests[first:stop]
        found = self._fit(lambda: answer(mine, disable_tqdm)) if mine else []
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
    if world.size() == 1:
        return found
    import torch.distributed as dist

    world.wait()
    parts: list = [None] * world.size()
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
) -> LanguageModel:
    """Raises: UserError where it cannot be loaded or has too few positions."""
    trust = {"trust_remote_code": trust_remote_code}
    tokenizer = models.load_tokenizer(path, **trust)
    add_bos_token = add_bos_token and tokenizer.bos_token_id is not None
    if add_bos_token:
        start_with_bos(tokenizer, path)
    model = models.load_model(path, tokenizer, dtype=dtype, attn_implementation="sdpa", **trust).to(device)
    if max_length is not None:
        check(model, max_length)
    return LanguageModel(model, tokenizer, batch_size, max_length=max_length, add_bos_token=add_bos_token, **trust)


def start_with_bos(tokenizer, path: str) -> None:
    """Make `tokenizer(text)` BOS + text, nothing else: lm-eval only asks for whatever special tokens it adds.

    Raises: UserError where the tokenizer cannot be told so.
    """

    def starts_with_bos() -> bool:
        text = tokenizer("a", add_special_tokens=False)["input_ids"]
        return tokenizer("a")["input_ids"] == [tokenizer.bos_token_id, *text]

    if not starts_with_bos():
        tokenizer.add_bos_token, tokenizer.add_eos_token = True, False
    if not starts_with_bos():
        raise UserError(f"the tokenizer of {path} cannot be told to start texts with BOS: set add_bos_token=false")
