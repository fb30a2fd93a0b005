"""What is wrong with a result though it has a number: in words, for people to see before they believe it."""

import math
from collections.abc import Mapping
from typing import Any

MANY = 0.01  # share of the items from which on it is a warning that their prompts were cut


def doubts_about(name: str, result: Mapping[str, Any]) -> list[str]:
    """Lines about the result of a task."""
    n, cut = result["n"], result.get("cut_prompts", 0)
    lines = []
    if not math.isfinite(result["value"]):
        lines.append(f"{result['metric']} is no finite number: {result['value']}")
    if cut > MANY * n:
        lines.append(f"{cut:,} of {n:,} prompts did not fit and were cut from the left (max_length, num_fewshot)")
    if tokens := result.get("max_gen_toks"):
        lines.append(f"answers have {tokens} tokens at most, half of what the model reads, so that prompts have room")
    if equal := result.get("all_equal"):
        lines.append(f"all answers of {equal:,} of {n:,} items have the same log-likelihood: the first is taken")
    if exchanged := result.get("examples_exchanged"):
        lines.append(f"{exchanged:,} of {n:,} items had been drawn as their own few-shot example: others were taken")
    if short := result.get("contamination", {}).get("too_short_by_script"):
        scripts = ", ".join(f"{count:,} {script}" for script, count in short.items())
        lines.append(f"items too short to be looked for in the training data, of {n:,}: {scripts}")
    return [f"{name}: {line}" for line in lines + result.get("notes", [])]
