"""The command line that all five stages share: words to paths, method, configuration; help; exit codes."""

import contextlib
import difflib
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from data_common.calls.config import REQUIRED, keys_of, load_yaml, pairs, resolve
from data_common.calls.help import help_text, usage
from data_common.calls.launch import describe as describe_launch
from data_common.calls.launch import follow_launcher, launch, wanted
from data_common.calls.stage import Call, Stage, keys_for, load_method, method_names
from data_common.files.durable import recover
from data_common.messages.commands import ROOT, stage_command
from data_common.messages.errors import UserError, exit_code
from data_common.messages.mistakes import as_pair, check_order
from data_common.messages.redaction import publish_names, redacted
from data_common.messages.terminal import detach_input, say
from data_common.messages.visible import brief, visible
from data_common.rows.shards import check_suffix

DRY_RUN, KEYS_ONLY = "--dry-run", "--dry-run=keys"
FLAGS = ("--help", "-h", DRY_RUN, KEYS_ONLY)


def main(stage: Stage, words: list[str] | None = None) -> int:
    """Run `stage` for the words of a command line; returns the exit code (0, 2 for what the user can cure)."""
    if words is None:
        words = sys.argv[1:]
        detach_input(words)
    return exit_code(lambda: run_call(stage, words))


def run_call(stage: Stage, words: list[str]) -> None:
    """What the words of a command line ask for. Raises: UserError for what the user can cure."""
    flags = [word for word in words if word in FLAGS]
    words = [word for word in words if word not in flags]
    if "--help" in flags or "-h" in flags or not (words or flags):
        say(help_text(stage, words))
        return
    call, stage_keys, config_path = _parse(stage, words)
    stage.check(call)
    several = wanted()
    if several and not getattr(call.method, "shares_work", False):
        raise UserError(f"{call.method_name} runs in one process: unset NPROC")
    if DRY_RUN in flags and KEYS_ONLY not in flags:
        with contextlib.redirect_stdout(sys.stderr):  # its notes; standard output is the keys
            stage.run(replace(call, dry_run=True), **stage_keys)
    if DRY_RUN in flags or KEYS_ONLY in flags:
        paths = visible(" -> ".join(call.paths))
        text = f"# {stage.name} {call.method_name}: {paths} (keys from {visible(config_path or 'defaults')})\n"
        text += yaml.safe_dump(redacted(call.config), sort_keys=False, allow_unicode=True)
        say(text + (f"# launch: {visible(describe_launch(f'{stage.name}.entry', words))}\n" if several else ""))
        return
    for path in call.paths:
        recover(Path(path))
    if several:
        launch(f"{stage.name}.entry", words)
        return
    follow_launcher()
    stage.run(call, **stage_keys)


def _parse(stage: Stage, words: list[str]) -> tuple[Call, dict[str, Any], Path | None]:
    """Words to a checked call: method name first, then configuration path, keys, values."""
    _check_options(stage, words)
    check_order(stage_command(stage.name), stage.paths, method_names(stage.name), words)
    count = len(stage.paths)
    if len(words) <= count:
        missing = (*stage.paths, "METHOD")[len(words)]
        raise UserError(f"{missing} is missing; usage: {usage(stage)}")
    for path, name in zip(words, stage.paths, strict=False):
        _check_path(name, path)
    name, rest = words[count], words[count + 1 :]
    method, config_path = load_method(stage, name)
    keys = [key for some in keys_for(stage, method) for key in some]
    if rest and "=" not in rest[0]:
        if not os.path.isfile(rest[0]):
            raise UserError(f"no configuration file {brief(rest[0])}{_in_package(rest[0]) or as_pair(rest, 0, keys)}")
        config_path, rest = Path(rest[0]), rest[1:]
    bare = [place for place, word in enumerate(rest) if not word.partition("=")[1] or word.startswith("=")]
    if bare:
        word = brief(rest[bare[0]])
        cure = as_pair(rest, bare[0], keys) or f", e.g. {next(iter(keys_of(method) or keys))}={word.lstrip('=')}"
        raise UserError(f"unexpected word '{word}': after CONFIG only key=value{cure}")
    overrides = pairs(rest)
    given = (load_yaml(config_path) if config_path else {}) | overrides
    stage_keys, method_keys = keys_for(stage, method, given)
    publish_names([stage.name, name, *stage_keys, *method_keys])
    config = resolve(stage_keys | method_keys, config_path, overrides)
    if stage.paths[-1] == "OUT.jsonl" and words[count - 1].endswith("/") and not config.get("rows_per_shard"):
        cure = ", or rows_per_shard=N for a folder of parts" if "rows_per_shard" in config else ""
        raise UserError(f"OUT={words[count - 1]} is a folder: name a file in it{cure}")
    if stage.paths[-1] == "OUT.jsonl" and not config.get("score_file"):
        check_suffix(words[count - 1], "OUT")
    call = Call(
        stage=stage.name,
        paths=tuple(words[:count]),
        method_name=name,
        method=method,
        method_keys={key: config[key] for key in method_keys},
        config=config,
        defaults={name: key.default for name, key in (stage_keys | method_keys).items() if key.default is not REQUIRED},
    )
    return call, {key: config[key] for key in stage_keys}, config_path


def _in_package(path: str) -> str:
    """Where a configuration is that is named as in the repository, from another folder or an installation."""
    return f"; there is {ROOT / path}" if (ROOT / path).is_file() else ""


def _check_path(name: str, path: str) -> None:
    """Raises UserError for a word that cannot be the path `name`."""
    short = name.split(".")[0]
    if not path:
        raise UserError(f"{name} is empty (an unset variable?)")
    if path.startswith("~") and not os.path.exists(path):
        raise UserError(f"{short}={path}: ~ stands for a folder in front of a word without quotes only")
    if "://" in path:
        hub = ", or an id of the hub (owner/name)," if "MODEL" in name else ""
        raise UserError(f"{short}={path}: a path of this machine{hub} is wanted")


def _check_options(stage: Stage, words: list[str]) -> None:
    """Raises UserError for an option, with the key that it may mean."""
    place = next((place for place, word in enumerate(words) if word.startswith("-")), None)
    if place is None:
        return
    named = [word for word in words if word in method_names(stage.name)]
    keys = [key for some in keys_for(stage, load_method(stage, named[0])[0]) for key in some] if named else []
    cure = as_pair(words, place, keys)
    if words[place] == "-":
        cure = "; standard input is /dev/stdin"
    elif close := difflib.get_close_matches(words[place].replace("_", "-"), FLAGS, 1, 0.8):
        cure = f"; did you mean '{close[0]}'?"
    raise UserError(f"unknown option {brief(words[place])}: only --help and --dry-run, all else is key=value{cure}")
