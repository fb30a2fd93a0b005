"""Words that are not as a stage wants them, and what to write instead."""

import difflib
import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from data_common.messages.errors import UserError
from data_common.messages.visible import brief

MEANT = {  # names that other programs have -> names here, of keys and methods
    "lr": "learning_rate",
    "min_lr": "min_learning_rate",
    "wd": "weight_decay",
    "bs": "batch_size",
    "per_device_train_batch_size": "batch_size",
    "micro_batch_size": "batch_size",
    "grad_accum": "gradient_accumulation_steps",
    "seq_len": "max_length",
    "max_seq_len": "max_length",
    "max_seq_length": "max_length",
    "cutoff_len": "max_length",
    "context_length": "max_length",
    "block_size": "max_length",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "max_steps": "max_tokens",
    "warmup": "warmup_steps",
    "precision": "dtype",
    "fp16": "dtype",
    "bf16": "dtype",
    "model_name_or_path": "model",
    "pretrained": "model",
    "random_seed": "seed",
    "random_state": "seed",
    "num_workers": "workers",
    "gpu": "device",
    "field": "text_field",
    "score": "score_field",
    "top_r": "r",
    "ratio": "r",
    "top_k": "k",
    "min": "threshold",
    "low": "lower_quantile",
    "high": "upper_quantile",
    "tau": "temperature",
    "layers": "folding_layer",
    "folds": "folding_layer",
    "direction": "ascending",
    "descending": "ascending",
    "reverse": "ascending",
    "order": "ascending",
    "few_shot": "num_fewshot",
    "fewshot": "num_fewshot",
    "shots": "num_fewshot",
    "random": "shuffle",
    "curriculum": "sorting",
    "ppl": "perplexity",
    "sft": "posttrain",
    "finetune": "posttrain",
    "harness": "lm_evaluation_harness",
    "lm_eval": "lm_evaluation_harness",
}
COUNT = re.compile(r"(\d+(?:\.\d+)?)([kKmMbBgG])")
POWERS = {"k": 3, "m": 6, "b": 9, "g": 9}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known word, else the list of all."""
    by_lower = {name.lower(): name for name in sorted(known)}
    meant = MEANT.get(word.lower().replace("-", "_"))
    close = [meant] if meant in by_lower.values() else []
    close = close or [by_lower[name] for name in difflib.get_close_matches(word.lower(), by_lower, n=1)]
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(by_lower.values())}"


def meant_value(name: str, text: Any, failure: str) -> str:
    """`; write r=0.5` for a value that is written as elsewhere: 50%, 0,5, 1,000, 10k, or one where a list belongs.

    Also for names in lists and mappings that YAML takes for something else: [1], {web:7}.

    failure: what msgspec says of it.
    """
    if re.match("Expected `str`, got `(int|float|bool)`", failure):
        return "; numbers, true and false that are names stand in quotes, as in ['1'] or {'1': ...}"
    meant = ""
    if not isinstance(text, str):
        return ""
    if "got `null`" in failure and re.fullmatch(r"\{.*[^\s:]:[^\s:].*\}", text):
        meant = re.sub(r":(?=\S)", ": ", text)
    elif text and "Expected `array" in failure:
        meant = f"[{text}]"
    elif re.search("Expected `(int|float)", failure) and (found := COUNT.fullmatch(text)):
        meant = f"{float(found[1]) * 10 ** POWERS[found[2].lower()]:.0f}"
    elif "Expected `int" in failure and re.fullmatch(r"[1-9]\d{0,2}(,\d{3})+", text):
        meant = text.replace(",", "")
    elif "Expected `float" in failure and (found := re.fullmatch(r"(\d*\.?\d+)%", text)):
        meant = f"{float(found[1]) / 100:g}"
    elif "Expected `float" in failure and re.fullmatch(r"-?\d*,\d+", text):
        meant = text.replace(",", ".")
    return f"; write {name}={meant}" if meant else ""


def check_order(command: str, paths: Sequence[str], methods: Collection[str], words: Sequence[str]) -> None:
    """Raises UserError where a method stands at another place than behind the paths, with the words in their order.

    command: of the stage. paths: their names. methods: all that the stage has. words: of the call.
    """
    found = [place for place, word in enumerate(words) if word in methods]
    if not found or len(paths) in found:
        return
    method, pairs = words[found[0]], [word for word in words if "=" in word]
    others = [word for word in (*words[: found[0]], *words[found[0] + 1 :]) if word not in pairs]
    if found[0] > len(paths):
        raise UserError(
            f"{found[0]} words stand before {method}, where {' '.join(paths)} belong: put a glob in quotes "
            "('folder/*.jsonl'), or name the folder"
        )
    told = [*others[: len(paths)], *paths[len(others) :], method, *others[len(paths) :], *pairs]
    raise UserError(f"{method} comes after {paths[-1]}: {command} {shlex.join(told)}")


def as_pair(words: Sequence[str], place: int, keys: Collection[str]) -> str:
    """How a word that is no `key=value` is written as one: `; write r=0.3`, or nothing where it is like no key.

    It may be an option (`-r 0.3`, `--r=0.3`), a key whose value is another word (`r 0.3`, `r = 0.3`), or a value
    behind a blank (`r= 0.3`).
    """
    name, _, value = words[place].lstrip("-").partition("=")
    name = name.replace("-", "_")
    if name not in keys:
        name = MEANT.get(name, name)
    following = [word for word in words[place + 1 : place + 3] if word != "="]
    if name in keys:
        return f"; write {name}={brief(value or (following or ['...'])[0])}"
    before = words[place - 1].removesuffix("=") if place and words[place - 1].endswith("=") else ""
    return f"; write {before}={brief(words[place])}, without blanks" if before in keys else ""
