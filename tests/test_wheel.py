"""The wheel in an environment of its own, called from an empty folder: no repository, nothing written into it.

DELT_INSTALLED=BIN tests an environment that has the wheel; else one is made, with the packages of this Python.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from data_common.calls.stage import REPOSITORY, STAGES
from tests import golden
from tests.test_shell import PARTS

COMMANDS = {stage.replace("_", "-"): stage for stage in STAGES}


def built(folder: Path) -> Path:
    """A wheel, built from a copy: building leaves files in its folder."""
    for part in (*PARTS, "tests", "README.md", "LICENSE", "pyproject.toml", "setup.py", "MANIFEST.in"):
        copy = shutil.copytree if (REPOSITORY / part).is_dir() else shutil.copy
        (folder / "source").mkdir(exist_ok=True)
        copy(REPOSITORY / part, folder / "source" / part)
    words = ["wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(folder / "source")]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    return next(folder.glob("delt-*.whl"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return built(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of programs of an environment with the wheel."""
    if given := os.environ.get("DELT_INSTALLED"):
        return Path(given)
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    words = ["--python", str(folder / "bin/python"), "install", "-q", "--no-deps", "--force-reinstall", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    return folder / "bin"


@pytest.fixture
def run(installed, tmp_path):
    """A call from an empty folder with a user's own modules of our names in it; -> what it prints."""
    for name in ("utils.py", "data_common.py", "data_scoring.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong module')\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DELT_", "PYTHON"))}
    environment = kept | {"DELT_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}

    def run(words: str, code: int = 0) -> str:
        program, *rest = words.split()
        options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
        done = subprocess.run([str(installed / program), *rest], **options)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    return run


def content(installed: Path) -> set[tuple[Path, int]]:
    """Every file of the installation but what Python compiles, and its time."""
    site = next(installed.parent.glob("lib/python*/site-packages"))
    return {(path, path.stat().st_mtime_ns) for path in site.rglob("*") if "__pycache__" not in path.parts}


@pytest.mark.slow
def test_what_is_in_the_wheel(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in names} == {"data_common", *STAGES}
    for suffix in (".py", ".yaml", ".sh", ".md", ".j2", ".css", ".js"):
        missing = {
            str(path.relative_to(REPOSITORY))
            for top in ("data_common", *STAGES)
            for path in (REPOSITORY / top).rglob(f"*{suffix}")
        } - names
        assert not missing
    metadata = zipfile.ZipFile(wheel).read(
        next(n for n in zipfile.ZipFile(wheel).namelist() if n.endswith("/METADATA"))
    )
    lines = metadata.decode().split("\n")
    assert "Requires-Dist: torch==2.13.0" in lines and 'Requires-Dist: kenlm>=0.2; extra == "kenlm"' in lines
    needed = [line.split("#")[0].strip() for line in (REPOSITORY / "requirements.txt").read_text().split("\n")]
    told = [Requirement(line.removeprefix("Requires-Dist: ")) for line in lines if line.startswith("Requires-Dist: ")]
    pairs = {(Requirement(line).name, Requirement(line).specifier) for line in needed if line}
    assert {(one.name, one.specifier) for one in told} == pairs


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_the_command(command, run):
    assert run(f"{command} --help").startswith(f"usage: {command} ")


@pytest.mark.slow
def test_a_chain_and_its_replay(run, tmp_path, installed):
    golden.write_inputs(tmp_path)
    before = content(installed)
    run("data-scoring in.jsonl scored.jsonl dsir target_data=target.jsonl score_field=new workers=1")
    run("data-selection scored.jsonl chosen.jsonl top-r r=0.5 score_field=new")
    run("data-ordering chosen.jsonl ordered.jsonl folding score_field=new")
    assert len((tmp_path / "ordered.jsonl").read_text().split("\n")) == 25
    assert "max_tokens: 800" in run(
        "model-train ordered.jsonl model out pretrain max_tokens=800 max_length=32 --dry-run"
    )
    run("model-eval model r.yaml perplexity data=target.jsonl max_length=64 device=cpu")
    assert run("model-eval-compare r.yaml")
    for out in ("scored.jsonl", "chosen.jsonl", "ordered.jsonl", "r.yaml"):
        assert "\nequal: " in run(f"data-efficacy-utils --replay {out}.manifest.json")
    manifest = json.loads((tmp_path / "ordered.jsonl.manifest.json").read_text())
    assert manifest["git_commit"] is None and manifest["versions"]["delt"]
    assert content(installed) == before


@pytest.mark.slow
def test_messages_name_the_commands(run, tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    assert "data-efficacy-utils --content dataset --id t.csv" in run("data-ordering t.csv o.jsonl shuffle", 2)
    assert run("data-selection a b top-q", 2).startswith("error: data_selection has no method 'top-q'; did you mean")
