"""What two results must have in common to be compared, and what is told where it differs."""

from collections.abc import Mapping
from typing import Any

from data_common.messages.errors import UserError
from model_eval.compare.outcomes import Comparison, Outcome

OF_TASKS = ("metric", "filter", "version", "num_fewshot", "limit", "n", "max_length", "max_gen_toks")
OF_CALLS = ("add_bos_token", "apply_chat_template", "system_instruction", "fewshot_as_multiturn")
TOLD = ("dtype", "chat_template", "positions")  # of calls: may differ, as models do


def check_comparable(one: Outcome, other: Outcome) -> None:
    """Raises UserError with all differences that forbid a comparison."""
    pairs = {key: (one.result.get(key), other.result.get(key)) for key in OF_TASKS}
    mine, others = (_settings(outcome) for outcome in (one, other))
    pairs |= {key: (mine[key], others[key]) for key in OF_CALLS if key in mine and key in others}
    if mine and others and (mine.get("max_length") or others.get("max_length")):
        pairs["max_length"] = mine["positions"], others["positions"]
    different = [f"{key} {mine} against {others}" for key, (mine, others) in pairs.items() if mine != others]
    digests = {one.result.get("items"), other.result.get("items")} - {None}
    if not different and len(digests) > 1:
        data = (one.result.get("data"), other.result.get("data"))
        different = [f"other items (data {data[0]} against {data[1]})" if any(data) else "other items"]
    if different:
        names = f"{one.path} and {other.path}"
        raise UserError(f"{names} cannot be compared on {one.task}: {'; '.join(different)}")


def notes(comparison: Comparison) -> list[str]:
    """What differs between the results though they are compared, and what is doubtful in them."""
    outcomes = [one for arms in comparison.values() for seeds in arms.values() for one in seeds]
    lines = []
    for key in TOLD:
        values: dict[str, list[str]] = {}
        for one in outcomes:
            if key in _settings(one):
                values.setdefault(str(_settings(one)[key]), []).append(one.arm)
        if len(values) > 1:
            told = "; ".join(f"{value} ({', '.join(dict.fromkeys(arms))})" for value, arms in values.items())
            lines.append(f"{key} differs: {told}")
    for name, words in (("cut_prompts", "prompts were cut"), ("all_equal", "items had equal answers")):
        counts = [(one, one.result.get(name)) for one in outcomes]
        lines += [f"{one.task}, {one.arm}: {count:,} of {one.result['n']:,} {words}" for one, count in counts if count]
    return lines


def _settings(outcome: Outcome) -> Mapping[str, Any]:
    """Of the call that evaluated; empty of an older version, which did not tell."""
    return outcome.content.get("settings") or {}
