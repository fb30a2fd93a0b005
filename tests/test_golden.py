"""A method whose results change raises its version, so that nobody takes older results for those of today."""

import pytest

from data_common.calls.stage import REPOSITORY, load_method
from tests import golden

CALLS = [pytest.param(call, id=call.key) for call in golden.calls()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    golden.write_inputs(folder)
    return folder


@pytest.mark.parametrize("call", CALLS)
def test_results_change_with_the_version_only(call, folder, monkeypatch):
    monkeypatch.chdir(folder)
    known = golden.recorded().get(call.key)
    assert known, "a new method or configuration: python -m tests.golden records its results"
    now = golden.version(call.stage, call.method)
    assert known["version"] == now, "python -m tests.golden records those of the new version"
    found = golden.result(call)
    assert golden.same(found, known["result"]), (
        "other results: raise the version, with the reason, by VERSIONS in the method.py; then python -m tests.golden"
    )


def test_what_is_recorded_is_of_methods_that_are_there():
    assert set(golden.recorded()) == {call.key for call in golden.calls()}


def test_every_configuration_is_called():
    """Those of whole models of 160M parameters and more are no small calls."""
    defaults = {load_method(call.stage, call.method)[1] for call in golden.calls()}
    shipped = {path for stage in golden.STAGES for path in (REPOSITORY / stage.name / "config").glob("*.yaml")}
    places = [key.split("/") for key in golden.CONFIGS]
    others = {REPOSITORY / stage / "config" / f"{name}.yaml" for stage, name in places}
    assert shipped == (defaults - {None}) | others


def test_another_result_is_noticed():
    assert golden.same([1.0, 2.0], [1.0, 2.00001])
    assert not golden.same([1.0, 2.0], [1.0, 2.1])
    assert not golden.same([1.0], [1.0, 1.0])
