"""The command line that all five stages share: words to paths, method, configuration; help; exit codes."""

import ast
import contextlib
import difflib
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from data_common.calls.config import REQUIRED, Key, build, describe, did_you_mean, keys_of, load_yaml, pairs, resolve
from data_common.calls.launch import describe as describe_launch
from data_common.calls.launch import follow_launcher, launch, wanted
from data_common.files.durable import recover
from data_common.messages.errors import UserError, exit_code
from data_common.messages.mistakes import as_pair, check_order
from data_common.messages.redaction import publish_names, redacted
from data_common.messages.terminal import detach_input, say
from data_common.messages.visible import brief, visible
from data_common.rows.shards import check_suffix

REPOSITORY = Path(__file__).resolve().parents[2]
DRY_RUN, KEYS_ONLY = "--dry-run", "--dry-run=keys"
FLAGS = ("--help", "-h", DRY_RUN, KEYS_ONLY)


@dataclass(frozen=True)
class Stage:
    """What a stage's entry.py declares of itself. Its keys are those of `run`, unless `keys` gives them."""

    name: str  # its folder
    paths: tuple[str, ...]  # names of the leading words, e.g. ("IN.jsonl", "OUT.jsonl")
    contract: str  # what a method.py must define: "select", "order", "Scorer", "train", "evaluate"
    run: Callable[..., None]  # run(call, *, stage keys); of a dry run (`Call`) it does nothing but raise UserError
    keys: Callable[[Callable, Mapping[str, Any]], dict[str, Key]] | None = None  # keys(method, what the call sets)
    check: Callable[["Call"], Any] = lambda call: None  # raises UserError for keys that do not go together


@dataclass(frozen=True)
class Call:
    """One checked call of a stage."""

    stage: str
    paths: tuple[str, ...]
    method_name: str
    method: Callable
    method_keys: dict[str, Any]
    config: dict[str, Any]  # stage keys and method keys together, as recorded in the manifest
    defaults: dict[str, Any] = field(default_factory=dict)  # of all keys, by their signatures
    dry_run: bool = False  # `Stage.run` only says what is wrong with the call, as far as that is soon known

    @property
    def versions(self) -> dict[str, dict[int, str]]:
        """Of the method."""
        return versions_of(self.method_name, self.method)

    def build(self) -> Any:
        """The object of a method that is a class. Raises: UserError for keys that do not go together."""
        return build(self.method, self.method_keys)


def main(stage: Stage, words: list[str] | None = None) -> int:
    """Run `stage` for the words of a command line; returns the exit code (0, 2 for what the user can cure)."""
    if words is None:
        words = sys.argv[1:]
        detach_input(words)
    return exit_code(lambda: _dispatch(stage, words))


def method_names(stage: str) -> list[str]:
    """The command-line names of a stage's methods: its folders that hold a method.py.

    The folder `top_r` is called `top-r` when its configuration is `config/top-r.yaml`, else as it is spelled.
    """
    folders = sorted(path.parent.name for path in (REPOSITORY / stage).glob("*/method.py"))
    configs = REPOSITORY / stage / "config"
    dashed = {folder: folder.replace("_", "-") for folder in folders}
    return [dashed[name] if (configs / f"{dashed[name]}.yaml").exists() else name for name in folders]


def load_method(stage: Stage, name: str) -> tuple[Callable, Path | None]:
    """The method called `name` and its default configuration (None where it has none).

    Raises: UserError for an unknown name, with the nearest known one.
    """
    known = method_names(stage.name)
    if name.replace("-", "_") not in [known_name.replace("-", "_") for known_name in known]:
        raise UserError(f"{stage.name} has no method '{brief(name)}'{did_you_mean(name, known)}")
    module = importlib.import_module(f"{stage.name}.{name.replace('-', '_')}.method")
    configs = REPOSITORY / stage.name / "config"
    names = (getattr(module, "DEFAULT_CONFIG", None), f"{name}.yaml", f"{name.replace('_', '-')}.yaml")
    existing = [configs / file for file in names if file and (configs / file).exists()]
    return getattr(module, stage.contract), existing[0] if existing else None


def versions_of(name: str, method: Callable) -> dict[str, dict[int, str]]:
    """Name -> version -> what changed in its results: `VERSIONS` of its method.py; empty where they never did."""
    changes = getattr(sys.modules[method.__module__], "VERSIONS", {})
    return {name: changes} if changes else {}


def keys_for(
    stage: Stage, method: Callable, given: Mapping[str, Any] | None = None
) -> tuple[dict[str, Key], dict[str, Key]]:
    """The keys of the stage, and those of the method; a key of both (`seed`, say) is declared by the method.

    given: what the call sets, unchecked.
    """
    method_keys = keys_of(method)
    stage_keys = stage.keys(method, given or {}) if stage.keys else keys_of(stage.run)
    return stage_keys | {name: key for name, key in method_keys.items() if name in stage_keys}, method_keys


def _dispatch(stage: Stage, words: list[str]) -> None:
    flags = [word for word in words if word in FLAGS]
    words = [word for word in words if word not in flags]
    if "--help" in flags or "-h" in flags or not (words or flags):
        say(_help(stage, words))
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
    check_order(f"{stage.name}/entry.sh", stage.paths, method_names(stage.name), words)
    count = len(stage.paths)
    if len(words) <= count:
        missing = (*stage.paths, "METHOD")[len(words)]
        raise UserError(f"{missing} is missing; usage: {_usage(stage)}")
    for path, name in zip(words, stage.paths, strict=False):
        _check_path(name, path)
    name, rest = words[count], words[count + 1 :]
    method, config_path = load_method(stage, name)
    keys = [key for some in keys_for(stage, method) for key in some]
    if rest and "=" not in rest[0]:
        if not os.path.isfile(rest[0]):
            raise UserError(f"no configuration file {brief(rest[0])}{as_pair(rest, 0, keys)}")
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
    if name == "OUT.jsonl":
        check_suffix(path, short)


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


def _usage(stage: Stage) -> str:
    return f"bash {stage.name}/entry.sh {' '.join(stage.paths)} METHOD [CONFIG.yaml] [key=value ...]"


def _help(stage: Stage, words: list[str]) -> str:
    """Help of the stage, or of one method: `METHOD --help` and `PATHS... METHOD --help` both work."""
    given = pairs([word for word in words if "=" in word])
    words = [word for word in words if "=" not in word]
    if not words:
        methods = "\n".join(f"  {name:<24} {_summary(stage.name, name)}" for name in method_names(stage.name))
        return (
            f"usage: {_usage(stage)}\n"
            f"       bash {stage.name}/entry.sh METHOD --help    the keys of a method\n"
            f"       ... --dry-run                              check the call, print its keys, do nothing\n"
            f"       ... --dry-run=keys                         check the keys alone: files may be yet to come\n\n"
            f"methods:\n{methods}"
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
    shown = str(config_path or "none").removeprefix(f"{REPOSITORY}/")
    text = f"usage: {_usage(stage).replace('METHOD', name)}\n\n{_summary(stage.name, name)}\n"
    text += f"configuration: {shown}\n\nkeys of {name}:\n{describe(method_keys) or '  none'}"
    return text + (f"\n\nkeys of the stage:\n{describe(stage_keys)}" if stage_keys else "")


def _summary(stage: str, name: str) -> str:
    """First line of a method's module docstring, read without importing (and so without torch)."""
    source = (REPOSITORY / stage / name.replace("-", "_") / "method.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").split("\n")[0]
