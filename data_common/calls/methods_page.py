"""docs/methods.md: every method in a line, by stage and family; and the families in README.md.

python -m data_common.calls.methods_page      writes both; a test compares them with the methods
"""

import sys

from data_common.calls.stage import FORMULA, REPOSITORY, STAGES, about, families

PAGE, FRONT_PAGE = REPOSITORY / "docs" / "methods.md", REPOSITORY / "README.md"
BEGIN, END = "<!-- families: made by python -m data_common.calls.methods_page -->\n", "<!-- end of families -->\n"
HEAD = """# Methods

Every method by stage and family; `bash STAGE/entry.sh METHOD --help` lists its keys. This page is made by
`python -m data_common.calls.methods_page`. **Needs** is what a method reads beside the text of the rows. **Cost** is
what it does for every row. **Formula** says how sure it is that a method computes what its source does:

"""


def page() -> str:
    """The text of the page."""
    text = HEAD + "".join(f"- *{word}*: {meaning}.\n" for word, meaning in FORMULA.items())
    return text + "".join(f"\n## {title}\n{_stage(stage)}" for stage, title in STAGES.items())


def _stage(stage: str) -> str:
    lines = []
    for family, names in families(stage).items():
        lines += [f"\n### {family[:1].upper() + family[1:]}\n"]
        lines += ["| method | what it does | needs | cost | formula | source |", "|---|---|---|---|---|---|"]
        lines += [_row(stage, name) for name in names]
    return "\n".join(lines) + "\n"


def _row(stage: str, name: str) -> str:
    facts = about(stage, name)
    folder = f"{stage}/{name.replace('-', '_')}"
    file = "README.md" if (REPOSITORY / folder / "README.md").exists() else "method.py"
    sources = ", ".join(f"[{_short(address)}]({address})" for address in facts.sources)
    cells = (f"[`{name}`](../{folder}/{file})", facts.summary, facts.needs, facts.cost, facts.formula, sources)
    return f"| {' | '.join(cells)} |"


def _short(address: str) -> str:
    """The name of a source, as short as it is known: arXiv and the number, else what stands last in the address."""
    last = address.rstrip("/").rsplit("/", 1)[1]
    return f"arXiv {last}" if "arxiv.org" in address else last


def front_page() -> str:
    """The text of README.md with the families of today."""
    before, _, rest = FRONT_PAGE.read_text(encoding="utf-8").partition(BEGIN)
    lines = ["| stage | methods by family |", "|---|---|"]
    for stage, title in STAGES.items():
        listed = (f"{family}: {', '.join(f'`{name}`' for name in names)}" for family, names in families(stage).items())
        lines.append(f"| {title.lower()} | {'; '.join(listed)} |")
    return before + BEGIN + "\n".join(lines) + "\n" + END + rest.partition(END)[2]


def main() -> int:
    """Write both pages."""
    for path, text in ((PAGE, page()), (FRONT_PAGE, front_page())):
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
