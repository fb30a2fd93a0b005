"""Imports run one way: entry -> method -> engine -> data_common, in lazy imports too, and never in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from data_common.calls.stage import REPOSITORY

STAGES = ("data_scoring", "data_selection", "data_ordering", "model_train", "model_eval")
FILES = sorted(path for folder in (*STAGES, "data_common") for path in (REPOSITORY / folder).rglob("*.py"))
MODULES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES
}
ROOMS = ("messages", "parallel", "files")  # each imports those before it, and no other


def imported(module: str) -> set[str]:
    """The modules of this repository that a module imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports by a relative name"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in MODULES else node.module for name in inner}
    return names & MODULES.keys()


GRAPH = {module: imported(module) for module in MODULES}


def layer(module: str) -> int:
    """0 data_common, 1 what methods of a stage share, 2 a method's folder, 3 the entry of a stage or of a command."""
    stage = module.partition(".")[0]
    if stage == "data_common":
        return 0
    if "__main__" in MODULES[module].read_text(encoding="utf-8"):
        return 3
    folder = MODULES[module].parent
    return 2 if any((parent / "method.py").exists() for parent in (folder, folder.parent)) else 1


def test_no_circle():
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_import_upward():
    upward = [f"{one} -> {other}" for one in GRAPH for other in GRAPH[one] if layer(other) > layer(one)]
    assert not upward


def test_methods_import_no_other_method_and_engines_none():
    def method(module: str) -> str | None:
        return ".".join(module.split(".")[:2]) if layer(module) == 2 else None

    assert not [
        f"{one} -> {other}" for one in GRAPH for other in GRAPH[one] if method(other) not in (None, method(one))
    ]


def test_the_lowest_rooms_stand_on_each_other():
    for place, room in enumerate(ROOMS):
        allowed = {f"data_common.{name}" for name in ROOMS[: place + 1]}
        for module in (name for name in GRAPH if name.startswith(f"data_common.{room}.")):
            outside = {name for name in GRAPH[module] if ".".join(name.split(".")[:2]) not in allowed}
            assert not outside, f"{module} imports {outside}"


def test_the_graph_sees_lazy_imports():
    assert "data_scoring.engines.ngrams" in GRAPH["data_scoring.dsir.method"]
    assert Path(MODULES["data_scoring.dsir.method"]).name == "method.py"
