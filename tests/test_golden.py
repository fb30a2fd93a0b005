"""A method whose results change raises its version, so that nobody takes older results for those of today."""

import pytest

from tests import golden

METHODS = [pytest.param(stage, name, id=f"{stage.name}/{name}") for stage, name in golden.methods()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    golden.write_inputs(folder)
    return folder


@pytest.mark.parametrize(("stage", "name"), METHODS)
def test_results_change_with_the_version_only(stage, name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    known = golden.recorded().get(f"{stage.name}/{name}")
    assert known, "a new method: python -m tests.golden records its results"
    assert known["version"] == golden.version(stage, name), "python -m tests.golden records those of the new version"
    found = golden.result(stage, name)
    assert golden.same(found, known["result"]), (
        "other results: raise the version, with the reason, by VERSIONS in the method.py; then python -m tests.golden"
    )


def test_what_is_recorded_is_of_methods_that_are_there():
    assert set(golden.recorded()) == {f"{stage.name}/{name}" for stage, name in golden.methods()}


def test_another_result_is_noticed():
    assert golden.same([1.0, 2.0], [1.0, 2.00001])
    assert not golden.same([1.0, 2.0], [1.0, 2.1])
    assert not golden.same([1.0], [1.0, 1.0])
