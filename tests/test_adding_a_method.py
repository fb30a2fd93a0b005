"""docs/adding-a-method.md is true: its files are written, its commands are run, in a copy of the repository."""

import json
import os
import re
import shutil
import subprocess
import sys

from data_common.calls.stage import REPOSITORY


def test_the_page_word_by_word(tmp_path):
    page = (REPOSITORY / "docs/adding-a-method.md").read_text(encoding="utf-8")
    copy = tmp_path / "repository"
    for part in ("data_common", "data_scoring", "data_selection", "data_ordering"):
        shutil.copytree(REPOSITORY / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    files = re.findall(r"^`([\w/.-]+)`:\n\n```\w+\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(files) == 4
    for name, content in files:
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text(content, encoding="utf-8")
    texts = ["four words are here", "one", "now three words", "and here are even more words"]
    rows = [json.dumps({"score": number, "text": text}) for number, text in enumerate(texts)]
    (copy / "example.jsonl").write_text("\n".join(rows) + "\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "DELT_PYTHON": sys.executable
    }
    for block in re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        subprocess.run(["bash", "-euc", block], cwd=copy, env=environment, check=True)

    def column(name, field):
        return [json.loads(line)[field] for line in (copy / name).read_text().split("\n")[:-1]]

    assert column("ordered.jsonl", "score") == [3, 0, 2, 1]
    assert column("scored.jsonl", "words") == [4, 1, 3, 6]
    assert column("selected.jsonl", "words") == [4, 6]
