"""What an installation needs, read from requirements.txt; all else is in pyproject.toml."""

import itertools
import re
from pathlib import Path

from setuptools import setup

groups: dict[str, list[str]] = {}
for line in Path(__file__).with_name("requirements.txt").read_text(encoding="utf-8").split("\n"):
    requirement, _, comment = map(str.strip, line.partition("#"))
    if left_out := re.fullmatch(r"# (\S+)\s+# (\[.*)", line):  # of the repository's own environment
        requirement, comment = left_out.groups()
    if requirement:
        marked = re.match(r"\[([\w, -]+)\]", comment)
        for group in re.findall(r"[\w-]+", marked[1]) if marked else [""]:
            groups.setdefault(group, []).append(requirement)
needed = groups.pop("")
setup(install_requires=needed, extras_require=groups | {"all": list(dict.fromkeys(itertools.chain(*groups.values())))})
