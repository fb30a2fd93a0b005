"""A method's signature is its configuration: YAML and key=value words become checked arguments.

Keyword-only parameters are the keys. The annotation gives type and range (`Annotated[float,
msgspec.Meta(ge=0, le=1)]`, `Literal[...]`), the default is the default, and the line of that name in the
docstring's `Args:` section is the help. A parameter may be a dataclass of settings, whose fields are the keys then.
"""

import contextlib
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec

from data_common.calls.yaml_text import YamlFault, parse_yaml, read_yaml
from data_common.messages.errors import UserError
from data_common.messages.mistakes import did_you_mean, meant_value
from data_common.messages.visible import brief

METADATA = ("name", "version", "description")  # accepted in every YAML, without effect
INCLUDE = "include"  # a YAML of others: a path from its own folder, or a list of them; later ones and its own keys win
DEEPEST = 20  # files that include one another
REQUIRED = inspect.Parameter.empty
LARGEST = 2**63  # integers below it fit into those of numpy and torch
NO_UNICODE = "it holds a character that is no Unicode text"
NO_TEXT = re.compile("[\0\ud800-\udfff]")
NO_PATH = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")  # the other surrogates stand for bytes that are no UTF-8
TEXTS = re.compile(r"fields?$|^(separator|language|arm|lower_is_better)$")  # keys; any other text may be a path
Positive = Annotated[int, msgspec.Meta(ge=1)]
Attention = typing.Literal["sdpa", "eager"]
Seed = Annotated[int, msgspec.Meta(ge=0)]  # of a random generator


@dataclass(frozen=True)
class Key:
    """One configuration key: `default` is REQUIRED where the user must set it."""

    name: str
    type: Any
    default: Any
    help: str


def keys_of(function: Callable) -> dict[str, Key]:
    """The configuration keys that `function` (or class) declares by its keyword-only parameters.

    Of a class: those of its base classes too, which it passes on as `**keys`. A parameter that is a dataclass stands
    for the keys that this declares; a help line of `function` for one of them goes before that of the dataclass.
    """
    keys: dict[str, Key] = {}
    helps: dict[str, str] = {}
    for owner in _owners(function):
        helps |= _argument_help(inspect.cleandoc(owner.__doc__ or ""))
        for parameter in _keyword_only(owner):
            name, kind = parameter.name, parameter.annotation
            own = keys_of(kind) if is_dataclass(kind) else {name: Key(name, kind, parameter.default, "")}
            keys |= {name: replace(key, help=helps.get(name, key.help)) for name, key in own.items()}
    return keys


def build(function: Callable, values: Mapping[str, Any]) -> Any:
    """What `function` gives for values of its keys; those of a dataclass are handed over as one of it.

    Raises: UserError for keys that do not go together, as the dataclass or `function` does.
    """
    values = dict(values)
    for parameter in (one for owner in _owners(function) for one in _keyword_only(owner)):
        if is_dataclass(parameter.annotation) and parameter.name not in values:  # a base class may have built it
            own = {name: values.pop(name) for name in keys_of(parameter.annotation) if name in values}
            values[parameter.name] = build(parameter.annotation, own)
    return function(**values)


def _owners(function: Callable) -> list[Callable]:
    """A function itself; a class behind its base classes."""
    return list(reversed(function.__mro__[:-1])) if inspect.isclass(function) else [function]


def _keyword_only(owner: Callable) -> Iterator[inspect.Parameter]:
    if not inspect.isclass(owner) or "__init__" in vars(owner):
        parameters = inspect.signature(owner, eval_str=True).parameters.values()
        yield from (one for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY)


def columns_of(function: Callable) -> list[str]:
    """Names of the positional parameters of `function`: the columns that a row method reads."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds]


def load_yaml(path: Path, key: str | None = None) -> dict[str, Any]:
    """A YAML mapping without the metadata keys, over what it includes. key: that names the file, where one does.

    Raises UserError with the place of the fault.
    """
    return {name: value for name, (value, _) in _settings(path, f"{key}: " if key else "").items()}


def _settings(path: Path, origin: str, above: tuple[Path, ...] = ()) -> dict[str, tuple[Any, Path]]:
    """Key -> its value and the file that sets it. above: the files that include this one."""
    if path.resolve() in above:
        raise UserError(f"{origin}{above[-1]}: {INCLUDE}: {path} includes it, and so itself")
    content = read_yaml(path, origin)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{origin}{path}: expected `key: value` lines")
    others = content.pop(INCLUDE, [])
    others = [others] if isinstance(others, str) else others
    if not isinstance(others, list) or not all(isinstance(other, str) and other for other in others):
        raise UserError(f"{origin}{path}: {INCLUDE}: the path of a YAML file, or a list of them, is wanted")
    if odd := [other for other in others if NO_PATH.search(other) or other.startswith("~/")]:
        raise UserError(f"{origin}{path}: {INCLUDE}: {brief(odd[0])} is no path (~ stands for no folder here)")
    if len(above) == DEEPEST:
        raise UserError(f"{path}: {INCLUDE}: more than {DEEPEST} files that include one another")
    found: dict[str, tuple[Any, Path]] = {}
    for other in others:
        found |= _settings(path.parent / other, f"{origin}{path}: {INCLUDE}: ", (*above, path.resolve()))
    return found | {name: (value, path) for name, value in content.items() if name not in METADATA}


def pairs(words: Iterable[str]) -> dict[str, str]:
    """`key=value` words by key. Raises: UserError for a key that is given twice, as in YAML."""
    found: dict[str, str] = {}
    for word in words:
        key, value = word.split("=", 1)
        if key in found:
            raise UserError(f"{brief(key)} is set twice: {brief(found[key])}, then {brief(value)}")
        found[key] = value
    return found


def resolve(keys: Mapping[str, Key], path: Path | None, overrides: Mapping[str, str]) -> dict[str, Any]:
    """Defaults, then the YAML at `path`, then `overrides` (text after `key=`): one checked value for each key.

    Raises: UserError for an unknown key (with a suggestion), a wrong type, a value out of range, a missing key.
    """
    given = {name: (value, f"{file}: ") for name, (value, file) in (_settings(path, "") if path else {}).items()}
    for name, text in overrides.items():
        given[name] = (text, "")
    for name, (_, origin) in given.items():
        if name not in keys:
            raise UserError(f"{origin}unknown key '{brief(str(name))}'{_meant(str(name), keys)}")
    values = {}
    for name, key in keys.items():
        if name in given:
            value, origin = given[name]
            values[name] = _checked(key, value, origin, is_text=name in overrides)
        elif key.default is REQUIRED:
            raise UserError(f"{name} is not set: add `{name}: ...` to the configuration or {name}=... to the call")
        else:
            values[name] = key.default
    return values


def _meant(name: str, keys: Mapping[str, Key]) -> str:
    """What to write in place of a key that is unknown."""
    if name == INCLUDE:
        return ": it stands in a YAML file; a call names one file, as CONFIG.yaml"
    chooser, dot, _ = name.partition(".")
    if dot and chooser in keys and not any(key.startswith(f"{chooser}.") for key in keys):
        return f": it needs {chooser}=METHOD, whose key it is"
    return did_you_mean(name, keys)


def describe(keys: Mapping[str, Key]) -> str:
    """The help text of `keys`: a line with type and default each, and the explanation below it."""
    lines = []
    for key in keys.values():
        default = "required" if key.default is REQUIRED else f"default {_plain(key.default)}"
        lines.append(f"  {key.name}  ({type_text(key.type)}; {default})")
        lines += [f"      {key.help}"] if key.help else []
    return "\n".join(lines)


def type_text(annotation: Any) -> str:
    """A type annotation in words: `float >= 0, <= 1`, `error | drop`, `int | null`."""
    if typing.get_origin(annotation) is typing.Annotated:
        base, meta = typing.get_args(annotation)[:2]
        signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
        limits = [f"{signs[n]} {getattr(meta, n)}" for n in signs if getattr(meta, n) is not None]
        return f"{type_text(base)} {', '.join(limits)}"
    if typing.get_origin(annotation) is typing.Literal:
        return " | ".join(map(str, typing.get_args(annotation)))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return " | ".join(type_text(part) for part in typing.get_args(annotation))
    if annotation is type(None):
        return "null"
    if typing.get_origin(annotation) is list:
        inner = type_text(typing.get_args(annotation)[0])
        return f"list [a,b] of {f'({inner})' if '|' in inner else inner}"
    if typing.get_origin(annotation) is dict:
        return f"mapping {{name: {type_text(typing.get_args(annotation)[1])}}}"
    return getattr(annotation, "__name__", str(annotation))


def _checked(key: Key, value: Any, origin: str, is_text: bool) -> Any:
    """`value` as the type of `key`. Text of the command line is read as YAML first, then as it stands."""
    candidates = [value]
    if is_text:
        with contextlib.suppress(YamlFault):
            candidates = [parse_yaml(value), value]
    failure = ""
    for candidate in candidates:
        try:
            # strict=False: YAML 1.1 reads 6e-4 as text; numbers written that way must still be numbers.
            checked = msgspec.convert(candidate, key.type, strict=False)
        except msgspec.ValidationError as error:
            failure = failure or str(error)
            continue
        except UnicodeEncodeError:  # of a lone surrogate that was to be a number
            failure = NO_UNICODE
            continue
        failure = _fault(key, checked)
        if not failure:
            return checked
    shown = f"{brief(_plain(value))} is not valid: {brief(failure)}"
    cure = meant_value(key.name, value, failure)
    raise UserError(f"{origin}{key.name}: {shown} (allowed: {type_text(key.type)}){cure}")


def _fault(key: Key, value: Any) -> str:
    """What is wrong with a value of the right type: a number that is not finite, a text that names no field or path."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN is not a value"
    if isinstance(value, int) and not -LARGEST <= value < LARGEST:
        return "out of range"
    is_text = TEXTS.search(key.name)
    several = list(_parts(value))
    if any(isinstance(part, float) and not math.isfinite(part) for part in several if part is not value):
        return "NaN and infinity are no values"
    parts = [part for part in several if isinstance(part, str)]
    if any((NO_TEXT if is_text else NO_PATH).search(part) for part in parts):
        return NO_UNICODE
    if "" in parts and key.name != "separator":
        return "it is empty (an unset variable?)"
    if not is_text and any(part.startswith("~/") for part in parts):
        return "~ stands for no folder here, write the path in full"
    return ""


def _parts(value: Any) -> Iterator[Any]:
    """What lists and mappings hold, names too, on every level; any other value is its own part."""
    if isinstance(value, list | dict):
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from _parts(part)
    else:
        yield value


def _plain(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{','.join(map(_plain, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {_plain(one)}' for name, one in value.items())}}}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _argument_help(docstring: str) -> dict[str, str]:
    """`name: help` entries of the `Args:` section; deeper lines continue the entry above them."""
    helps: dict[str, str] = {}
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", docstring, re.MULTILINE)
    name = None
    for line in section.group(1).split("\n") if section else []:
        entry = re.match(r"    (\w+): (.*)", line)
        if entry:
            name, helps[entry[1]] = entry[1], entry[2].strip()
        elif name and line.strip():
            helps[name] += " " + line.strip()
    return helps
