"""No line of the documentation is false: every command block is checked, every link leads somewhere."""

import importlib
import itertools
import re
import shlex

import pytest

import utils
from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY, Stage
from data_common.entry import parser

OWN = re.compile(r"(?!results/|data/)[^.]")  # neither hidden nor made by a run
PAGES = sorted(path for path in REPOSITORY.rglob("*.md") if OWN.match(str(path.relative_to(REPOSITORY))))
ELSEWHERE = {"docs/adding-a-method.md": "tests/test_adding_a_method.py"}  # there its commands are run


def commands(page) -> list[list[str]]:
    """The words of each command in the bash blocks of a page."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").split("\n")]
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def check(words: list[str]) -> None:
    """Raises AssertionError for a command that does not work as it stands."""
    words = list(itertools.dropwhile(lambda word: "=" in word, words))  # NAME=value before a command, or alone
    if not words:
        return
    script = words[1] if len(words) > 1 else ""
    if words[0] == "bash" and script.endswith("/entry.sh"):
        stage: Stage = importlib.import_module(script.replace("/entry.sh", ".entry")).STAGE
        assert main(stage, [*(word for word in words[2:] if word != "--dry-run"), "--dry-run=keys"]) == 0
    elif words[:3] == ["python", "utils.py", "--replay"]:
        parser().parse_args(words[2:])  # its file is made by a run
    elif words[:2] == ["python", "utils.py"]:
        assert utils.main([*words[2:], "--dry-run"]) == 0
    elif words[:2] == ["python", "-m"]:
        source = (REPOSITORY / (words[2].replace(".", "/") + ".py")).read_text(encoding="utf-8")
        assert all(word in source for word in words[3:] if word.startswith("--"))
    elif words[0] == "bash":
        assert (REPOSITORY / script).is_file()
    elif words[:2] == ["pip", "install"] and words[2].startswith("."):
        groups = words[2].removeprefix(".").strip("[]").split(",")
        assert all(f"[{group}]" in (REPOSITORY / "requirements.txt").read_text() for group in groups if group)
    elif words[:3] == ["pip", "install", "-r"]:
        assert (REPOSITORY / words[3]).is_file()
    else:
        assert words[0] in ("cd", "git", "export"), f"nothing checks a command like this: {shlex.join(words)}"


@pytest.mark.parametrize("page", [str(page.relative_to(REPOSITORY)) for page in PAGES])
def test_commands(page, monkeypatch):
    if page in ELSEWHERE:
        assert (REPOSITORY / ELSEWHERE[page]).exists()
        return
    monkeypatch.chdir(REPOSITORY)
    for words in commands(REPOSITORY / page):
        check(words)


@pytest.mark.parametrize("page", [str(page.relative_to(REPOSITORY)) for page in PAGES])
def test_links(page):
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)):
        if "://" not in target:
            assert ((REPOSITORY / page).parent / target).exists(), target


@pytest.mark.parametrize(
    "command",
    [
        "bash data_selection/entry.sh in.jsonl out.jsonl top-q",
        "bash data_selection/entry.sh in.jsonl out.jsonl top-r ratio=0.5",
        "bash data_selection/entry.sh in.jsonl out.jsonl top-r data_selection/config/none.yaml",
        "python utils.py --content dataset --id x --save-dir y --sample 3",
        "python utils.py --content model --id x --save-dir y --sample-size 3",
        "python -m benchmarks.jsonl --huge",
        "bash docs/recipes/none.sh",
        "some-other-tool --now",
    ],
)
def test_a_false_command_is_found(command):
    with pytest.raises(AssertionError):
        check(command.split())
