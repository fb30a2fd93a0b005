"""What `--help` says: the methods of a stage by family, and the keys of a method."""

from dataclasses import replace
from pathlib import Path

from data_common.calls.config import describe, load_yaml, pairs
from data_common.calls.stage import FORMULA, REPOSITORY, Stage, about, families, keys_for, load_method
from data_common.messages.commands import IN_REPOSITORY, stage_command


def usage(stage: Stage) -> str:
    """The words of a call."""
    return f"{stage_command(stage.name)} {' '.join(stage.paths)} METHOD [CONFIG.yaml] [key=value ...]"


def help_text(stage: Stage, words: list[str]) -> str:
    """Help of the stage, or of one method: `METHOD --help` and `PATHS... METHOD --help` both work."""
    given = pairs([word for word in words if "=" in word])
    words = [word for word in words if "=" not in word]
    if not words:
        return (
            f"usage: {usage(stage)}\n"
            f"       {stage_command(stage.name)} METHOD --help    the keys of a method\n"
            f"       ... --dry-run                              check the call, print its keys, do nothing\n"
            f"       ... --dry-run=keys                         check the keys alone: files may be yet to come\n\n"
            f"{_methods(stage)}"
        )
    name = words[min(len(stage.paths), len(words) - 1)]
    method, config_path = load_method(stage, name)
    if len(words) > len(stage.paths) + 1:
        config_path = Path(words[len(stage.paths) + 1])
    defaults = load_yaml(config_path) if config_path else {}
    stage_keys, method_keys = (
        {name: replace(key, default=defaults.get(name, key.default)) for name, key in keys.items()}
        for keys in keys_for(stage, method, defaults | given)
    )
    stage_keys = {key: stage_keys[key] for key in stage_keys if key not in method_keys}
    shown = str(config_path or "none")
    if IN_REPOSITORY:
        shown = shown.removeprefix(f"{REPOSITORY}/")
    text = f"usage: {usage(stage).replace('METHOD', name)}\n\n{_about(stage, name)}"
    text += f"configuration: {shown}\n\nkeys of {name}:\n{describe(method_keys) or '  none'}"
    return text + (f"\n\nkeys of the stage:\n{describe(stage_keys)}" if stage_keys else "")


def _methods(stage: Stage) -> str:
    """The methods of a stage, a line each, by family."""
    lines = ["methods, by family (docs/methods.md has what each needs and costs):"]
    for family, names in families(stage.name).items():
        lines += [f"\n{family or 'without a family'}"]
        lines += [f"  {name:<24} {about(stage.name, name).summary}" for name in names]
    return "\n".join(lines)


def _about(stage: Stage, name: str) -> str:
    """What a method does, needs and costs, and how sure its formula is."""
    facts = about(stage.name, name)
    rows = {"needs": facts.needs, "cost": facts.cost, "source": " ".join(facts.sources)}
    rows |= {"formula": f"{facts.formula}: {FORMULA[facts.formula]}"} if facts.formula in FORMULA else {}
    return facts.summary + "\n" + "".join(f"{key}: {value}\n" for key, value in rows.items() if value)
