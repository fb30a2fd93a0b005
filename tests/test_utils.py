"""The download command: options, what is there already, whole or nothing, exit codes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import utils
from data_common.embedded import python_stdlib
from data_common.messages.errors import UserError

SCRIPT = Path(utils.__file__)
STDLIB = ("--content", "dataset", "--id", "python-stdlib")


def command(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run utils.py as a user does, from another folder and without the settings of the tests."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PYTHON"))}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words], cwd=folder, env=clean | environment, capture_output=True, text=True
    )


@pytest.fixture
def build(monkeypatch):
    """Replaces the build of the corpus by one file; `build.error` is raised after it is written."""

    class Build:
        calls, error = 0, None

        def __call__(self, folder):
            self.calls += 1
            (folder / "corpus.jsonl").write_text("{}\n")
            if self.error:
                raise self.error
            return {"counted": 1}

    monkeypatch.setattr(python_stdlib, "build", Build())
    return python_stdlib.build


def test_help_is_quick_and_loads_no_library(tmp_path):
    started = time.perf_counter()
    result = command("--help", folder=tmp_path)
    assert time.perf_counter() - started < 5  # 0.1 on a quiet machine
    assert result.returncode == 0
    assert "python-stdlib" in result.stdout
    program = "import utils, sys; print(*sys.modules)"
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    words = [sys.executable, "-c", program]
    loaded = subprocess.run(
        words, cwd=SCRIPT.parent, env=clean, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "utils" in loaded
    assert not {"numpy", "torch", "datasets", "huggingface_hub"} & set(loaded)


@pytest.mark.parametrize("content", ["dataset", "model"])
@pytest.mark.parametrize("setting", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_without_a_hub_it_fails_quickly_in_one_line(tmp_path, content, setting):
    (tmp_path / "data_common").mkdir()  # the user's own folder of that name must not be in the way
    started = time.perf_counter()
    result = command("--content", content, "--id", "some/thing", "--save-dir", "out.jsonl", folder=tmp_path, **setting)
    assert time.perf_counter() - started < 10
    assert result.returncode == 2
    assert result.stdout == ""
    [line] = result.stderr.removesuffix("\n").split("\n")
    assert line.startswith("error: ")
    assert next(iter(setting)) in line
    assert [path.name for path in tmp_path.iterdir()] == ["data_common"]


def test_a_build_is_whole_recorded_and_not_done_twice(tmp_path, build, capsys):
    words = [*STDLIB, "--save-dir", str(tmp_path / "a" / "lib")]
    assert utils.main(words) == 0
    assert [path.name for path in (tmp_path / "a").iterdir() if path.is_dir()] == ["lib"]
    assert json.loads((tmp_path / "a" / "lib.manifest.json").read_text())["counted"] == 1
    assert utils.main(words) == 0
    assert build.calls == 1
    assert "up to date" in capsys.readouterr().out


def test_an_incomplete_result_is_not_taken_for_complete(tmp_path, build, capsys):
    words = [*STDLIB, "--save-dir", str(tmp_path / "lib")]
    utils.main(words)
    (tmp_path / "lib" / "corpus.jsonl").write_text("")
    assert utils.main(words) == 2
    assert "holds something else" in capsys.readouterr().err


@pytest.mark.parametrize("error", [UserError("no such thing"), OSError(28, "No space left on device")])
def test_a_failed_build_leaves_nothing(tmp_path, build, capsys, error):
    build.error = error
    assert utils.main([*STDLIB, "--save-dir", str(tmp_path / "lib")]) == 2
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err.startswith("error: ")


def test_an_interrupted_build_leaves_nothing(tmp_path, build):
    build.error = KeyboardInterrupt()
    assert utils.main([*STDLIB, "--save-dir", str(tmp_path / "lib")]) == 130
    assert list(tmp_path.iterdir()) == []


def test_files_of_the_user_are_never_replaced(tmp_path, build, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "notes.txt"):
        assert utils.main([*STDLIB, "--save-dir", str(place)]) == 2
        assert "holds something else" in capsys.readouterr().err
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert build.calls == 0


def test_an_empty_folder_may_be_filled(tmp_path, build):
    (tmp_path / "lib").mkdir()
    assert utils.main([*STDLIB, "--save-dir", str(tmp_path / "lib")]) == 0
    assert [path.name for path in (tmp_path / "lib").iterdir()] == ["corpus.jsonl"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--content", "model", "--id", "tiny"], "--id tiny needs --data"),
        (["--content", "model", "--id", "tiny", "--data", "none.jsonl"], "no such file: none.jsonl"),
        ([*STDLIB, "--sample-size", "3"], "--sample-size does not go with"),
        (["--content", "model", "--id", "gpt2", "--split-name", "test"], "--split-name does not go with"),
        (["--content", "dataset", "--id", "tiny", "--data", "x.jsonl"], "--data does not go with"),
        (["--content", "dataset", "--id", "some/data"], "must end with .jsonl"),
        (["--content", "dataset", "--id", "some/data", "--sample-size", "many"], "invalid int value"),
        (["--content", "dataset", "--id", "some/data", "--sample", "3"], "unrecognized arguments"),
        (["--content", "paper", "--id", "x"], "invalid choice"),
        (["--content", "model"], "--id"),
    ],
)
def test_what_the_user_can_cure_is_one_line(tmp_path, capsys, words, message):
    assert utils.main([*words, "--save-dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_call_of_another_kind_left_does_not_get_in(tmp_path, build):
    draft = tmp_path / ".out.partial"
    draft.mkdir()
    (draft / "weights.bin").write_bytes(b"pickle")
    (tmp_path / ".out.partial-repo-some--model-abcdef01").mkdir()
    (tmp_path / ".out.jsonl.partial").write_text("of another place")
    assert utils.main([*STDLIB, "--save-dir", str(tmp_path / "out")]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["corpus.jsonl"]
    assert {path.name for path in tmp_path.iterdir()} == {"out", "out.manifest.json", ".out.jsonl.partial"}


def test_a_call_that_was_killed_before_its_manifest_is_done(tmp_path, build, capsys, monkeypatch):
    def killed(run):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("data_common.files.manifest.Run._publish_manifest", killed)
        assert utils.main([*STDLIB, "--save-dir", str(tmp_path / "out")]) == 130
    assert not (tmp_path / "out.manifest.json").exists()
    capsys.readouterr()
    assert utils.main([*STDLIB, "--save-dir", str(tmp_path / "out")]) == 0
    assert "up to date" in capsys.readouterr().out and build.calls == 1
    assert {path.name for path in tmp_path.iterdir()} == {"out", "out.manifest.json"}


def test_two_calls_into_one_place_do_not_mix(tmp_path, build, capsys):
    real, codes = python_stdlib.build.__class__.__call__, []

    def meanwhile(self, folder):
        if not codes:
            codes.append(None)
            codes[0] = utils.main([*STDLIB, "--save-dir", str(tmp_path / "out")])
        return real(self, folder)

    python_stdlib.build.__class__.__call__ = meanwhile
    assert utils.main([*STDLIB, "--save-dir", str(tmp_path / "out")]) == 0
    assert codes == [2] and f"error: another call is writing {tmp_path / 'out'}" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"out", "out.manifest.json"}


def test_a_planted_link_in_place_of_the_draft_is_not_followed(tmp_path, build, capsys):
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/file").write_text("mine")
    (tmp_path / ".out.partial").symlink_to(tmp_path / "victim")
    assert utils.main([*STDLIB, "--save-dir", str(tmp_path / "out")]) == 2
    assert ".out.partial is a symbolic link" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "victim").iterdir()] == ["file"]


def test_options_reach_the_hub(tmp_path, monkeypatch):
    from data_common.hub import datasets_source

    calls, draft = [], tmp_path / ".out.jsonl.partial"
    draft.write_text('{"text": "x"}\n')
    monkeypatch.setattr(datasets_source, "download_dataset", lambda *given: calls.append(given) or (draft, {"rows": 1}))
    path = tmp_path / "out.jsonl"
    words = ["--content", "dataset", "--id", "some/data", "--save-dir", str(path), "--shuffle-seed", "0"]
    words += ["--data-name", "german", "--split-name", "test", "--sample-size", "3", "--revision", "v1"]
    assert utils.main(words) == 0
    assert calls == [(datasets_source.Wanted("some/data", "german", "test", "v1", 3, 0), str(path))]
