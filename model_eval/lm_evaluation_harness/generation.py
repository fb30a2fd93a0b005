"""What limits and changes the answers that a model generates."""

import torch
from lm_eval.models.utils import normalize_gen_kwargs
from transformers import GenerationConfig

from data_common.messages.errors import UserError

OF_GREEDY = (  # settings of a generation_config.json that change what is generated without sampling
    *("repetition_penalty", "no_repeat_ngram_size", "bad_words_ids", "sequence_bias", "suppress_tokens", "num_beams"),
    *("begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id", "min_length", "min_new_tokens"),
    *("length_penalty", "exponential_decay_length_penalty", "penalty_alpha", "guidance_scale", "stop_strings"),
)
OF_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
LIMIT, OTHER_NAMES = "max_gen_toks", ("max_new_tokens", "max_tokens", "max_completion_tokens")  # in a task YAML


def leave_room(requests: list, longest: int, max_length: int, default: int) -> tuple[int, int | None]:
    """Where an answer would leave too little room for a prompt, answers have half of the model's length at most.

    The requests of the task are changed, so that what is saved of them is true. longest: tokens of a prompt.
    default: tokens of an answer where the task does not say.
    -> (tokens that a prompt may have, new limit of answers; None = as it was)
    """
    wanted = max((normalize_gen_kwargs(request.args[1], default)[LIMIT] for request in requests), default=0)
    half = max_length // 2
    if wanted <= half or longest + wanted <= max_length:
        return max_length - wanted, None
    for request in requests:
        for name in OTHER_NAMES:
            request.args[1].pop(name, None)
        request.args[1][LIMIT] = half
    return max_length - half, half


def settings_of_the_model(config: GenerationConfig, requests: list) -> list[str]:
    """What the model's generation_config.json changes of its answers, though no task asked for it."""
    asked = requests[0].args[1] if requests else {}
    sampled = asked.get("do_sample") or asked.get("temperature", 0) > 0
    names = (*OF_GREEDY, *OF_SAMPLING) if sampled else OF_GREEDY
    found = {key: value for key, value in config.to_diff_dict().items() if key in names and key not in asked}
    told = ", ".join(f"{key}={value}" for key, value in found.items() if value is not None)
    return [f"generation_config.json of the model changes its answers: {told}"] if told else []


def refuse_no_number(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """A logits processor that changes nothing. Raises: UserError for NaN and +inf; -inf rules a token out."""
    if (scores.isnan() | scores.isposinf()).any():
        raise UserError("the model gives logits that are no numbers")
    return scores
