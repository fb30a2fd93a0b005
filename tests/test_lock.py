"""requirements.lock: one version of every package for Python 3.11 to 3.13, within the ranges of requirements.txt."""

import re

import pytest
from packaging.requirements import Requirement

from data_common.calls.stage import REPOSITORY

LOCK = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
PYTHONS = ("3.11", "3.12", "3.13")


def requirements(name: str) -> list[Requirement]:
    lines = (line.split("#")[0].strip() for line in (REPOSITORY / name).read_text(encoding="utf-8").split("\n"))
    return [Requirement(line) for line in lines if line]


def locked(python: str) -> list[Requirement]:
    """What the lock holds for a version of Python on Linux."""
    machine = {"python_version": python, "python_full_version": f"{python}.1", "sys_platform": "linux"}
    return [one for one in requirements("requirements.lock") if one.marker is None or one.marker.evaluate(machine)]


@pytest.mark.parametrize("python", PYTHONS)
def test_what_is_required_is_there_once_within_its_range(python):
    versions = {}
    for one in locked(python):
        name = one.name.lower().replace("_", "-")
        assert name not in versions, f"{name} is there twice"
        assert re.fullmatch(r"==[0-9][\w.]*", str(one.specifier)), f"{one} is no exact version"
        versions[name] = str(one.specifier).removeprefix("==")
    for wanted in requirements("requirements.txt") + requirements("tests/requirements.txt"):
        name = wanted.name.lower().replace("_", "-")
        assert name in versions, f"bash data_common/lock.sh: {name} is missing"
        assert wanted.specifier.contains(versions[name]), f"bash data_common/lock.sh: {name}=={versions[name]}"


def test_no_hash_no_index_no_build_for_a_gpu():
    assert "--" not in LOCK and "://" not in LOCK and "+" not in LOCK
    assert not re.search("^(nvidia|cuda|triton)", LOCK, re.MULTILINE)


def test_the_head_names_the_command():
    assert "bash data_common/lock.sh" in LOCK.split("\n")[0] and (REPOSITORY / "data_common/lock.sh").exists()
