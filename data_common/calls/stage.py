"""Stages and their methods: what an entry.py declares, a checked call, and the methods that a stage has.

A method is found by its folder, `STAGE/NAME/method.py`; no list names it.
"""

import ast
import importlib
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_common.calls.config import Key, build, did_you_mean, keys_of
from data_common.messages.commands import ROOT
from data_common.messages.errors import UserError
from data_common.messages.visible import brief

REPOSITORY = ROOT
STAGES = {  # folder -> title
    "data_scoring": "Scoring",
    "data_selection": "Selection",
    "data_ordering": "Ordering",
    "model_train": "Training",
    "model_eval": "Evaluation",
}


@dataclass(frozen=True)
class Stage:
    """What a stage's entry.py declares of itself. Its keys are those of `run`, unless `keys` gives them."""

    name: str  # its folder
    paths: tuple[str, ...]  # names of the leading words, e.g. ("IN.jsonl", "OUT.jsonl")
    contracts: tuple[str, ...]  # a method.py defines one of these, e.g. ("select", "copies") or ("Scorer",)
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
    method = next(getattr(module, contract) for contract in stage.contracts if hasattr(module, contract))
    return method, existing[0] if existing else None


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


@dataclass(frozen=True)
class About:
    """What a method says of itself: of its docstring the first line, and the table `ABOUT` of its method.py."""

    summary: str
    family: str
    needs: str  # beside rows with text, or with the score that it reads
    cost: str
    formula: str  # one of FORMULA
    sources: tuple[str, ...]  # addresses in its docstring


FORMULA = {  # how sure it is that a method computes what its source does
    "exact": "checked against the authors' code, their figures, or another package",
    "paper": "from the paper, checked against brute force or a closed form",
    "reconstruction": "parts of the source could not be had; the method's page says which",
    "own": "of this project, or common practice without one source",
}


def about(stage: str, name: str) -> About:
    """Read without importing the method, and so without its libraries."""
    source = (REPOSITORY / stage / name.replace("-", "_") / "method.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    docstring = ast.get_docstring(tree) or ""
    named = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    facts = ast.literal_eval(named["ABOUT"]) if "ABOUT" in named else {}
    found = re.findall(r"arXiv\s+(\d{4}\.\d{5})|(https?://[^\s),]*[^\s),.])", docstring)
    sources = tuple(dict.fromkeys(address or f"https://arxiv.org/abs/{number}" for number, address in found))
    words = {key: facts.get(key, "") for key in ("family", "needs", "cost", "formula")}
    return About(docstring.split("\n")[0], **words, sources=sources)


def families(stage: str) -> dict[str, list[str]]:
    """Family -> names of its methods; families and methods by the alphabet, those without a family last."""
    found: dict[str, list[str]] = {}
    for name in method_names(stage):
        found.setdefault(about(stage, name).family, []).append(name)
    return dict(sorted(found.items(), key=lambda one: (not one[0], one[0])))
