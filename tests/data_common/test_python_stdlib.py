"""The built-in corpus: what it holds, what must not mix, and the same bytes every time."""

import hashlib
import json
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from data_common.embedded import python_stdlib
from data_common.messages.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PROSE = "The queue keeps its items in the order in which they came, and gives back the oldest one first. " * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    built = tmp_path_factory.mktemp("stdlib")
    python_stdlib.build(built)
    return built


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def words(text: str) -> str:
    return " ".join(text.split())


def runs_of_13_words(text: str) -> list[str]:
    split = text.split()
    return [" ".join(run) for run in zip(*(split[start:] for start in range(13)), strict=False)]


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_corpus_mixes_prose_and_junk_in_bounds(folder):
    corpus = rows(folder / "corpus.jsonl")
    assert 1.5e6 <= (folder / "corpus.jsonl").stat().st_size <= 3e6
    characters = Counter()
    for row in corpus:
        assert list(row) == ["id", "text", "source", "kind"]
        assert 100 <= len(row["text"]) <= (2000 if row["kind"] in ("docstring", "licence") else 1200)
        characters[row["kind"]] += len(row["text"])
    assert set(characters) == {"docstring", "source", "licence", "boilerplate"}
    assert characters["docstring"] >= characters.total() / 3
    assert min(characters["source"], characters["boilerplate"]) >= characters.total() / 10
    assert len({row["id"] for row in corpus}) == len({row["text"] for row in corpus}) == len(corpus)


def test_corpus_is_shuffled(folder):
    kinds = [row["kind"] for row in rows(folder / "corpus.jsonl")]
    share = kinds.count("docstring") / len(kinds)
    assert abs(kinds[: len(kinds) // 4].count("docstring") / (len(kinds) // 4) - share) < 0.1


def test_target_and_heldout_are_whole_passages_of_separate_topics(folder):
    from pydoc_data.topics import topics

    target, heldout = rows(folder / "target.jsonl"), rows(folder / "heldout.jsonl")
    assert len(target) >= 150
    assert len(heldout) >= 200
    assert not {row["topic"] for row in target} & {row["topic"] for row in heldout}
    for row in target + heldout:
        assert 400 <= len(row["text"]) <= 1200
        topic = words(topics[row["topic"]])
        assert all(words(paragraph) in topic for paragraph in row["text"].split("\n\n"))


def test_nothing_of_the_reference_stands_twice(folder):
    texts = {name: [row["text"] for row in rows(folder / f"{name}.jsonl")] for name in ("corpus", "target", "heldout")}
    paragraphs = [words(p) for name in ("target", "heldout") for text in texts[name] for p in text.split("\n\n")]
    whole = [paragraph for paragraph in paragraphs if len(paragraph) > 100]
    assert len(whole) > 500
    assert len(set(whole)) == len(whole)
    runs = {name: {run for text in found for run in runs_of_13_words(text)} for name, found in texts.items()}
    assert min(map(len, runs.values())) > 5000
    for one, other in (("target", "heldout"), ("target", "corpus"), ("heldout", "corpus")):
        assert runs[one] & runs[other] == set()


def test_task_items_have_one_true_continuation(folder):
    items = rows(folder / "task" / "next_passage.jsonl")
    heldout = [(row["topic"], words(row["text"])) for row in rows(folder / "heldout.jsonl")]
    assert len(items) >= 150
    places = Counter(item["answer"] for item in items)
    assert set(places) == {0, 1, 2, 3}
    assert max(places.values()) - min(places.values()) <= 1
    for item in items:
        passage, continuations = item["passage"], item["continuations"]
        assert 200 <= len(passage) <= 400
        assert len(set(continuations)) == 4
        assert all(60 <= len(text) <= 160 for text in continuations)
        [topic] = {topic for topic, text in heldout if f"{passage} {continuations[item['answer']]}" in text}
        same_topic = " ".join(text for other, text in heldout if other == topic)
        assert sum(text in same_topic for text in continuations) == 1


def test_task_file_is_a_multiple_choice_task(folder):
    task = yaml.safe_load((folder / "task" / "next_passage.yaml").read_text())
    assert (task["task"], task["output_type"], task["target_delimiter"]) == ("next_passage", "multiple_choice", " ")
    assert (folder / "task" / task["dataset_kwargs"]["data_files"][task["test_split"]]).is_file()
    columns = {task[key] for key in ("doc_to_text", "doc_to_choice", "doc_to_target")}
    assert columns == set(rows(folder / "task" / "next_passage.jsonl")[0])
    assert [(metric["metric"], metric["aggregation"]) for metric in task["metric_list"]] == [
        ("acc", "mean"),
        ("acc_norm", "mean"),
    ]


def test_manifest_describes_every_file(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    files = files_below(folder)
    del files["manifest.json"]
    assert {name: entry["sha256"] for name, entry in manifest["files"].items()} == {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items()
    }
    corpus = rows(folder / "corpus.jsonl")
    assert manifest["files"]["corpus.jsonl"]["rows"] == len(corpus)
    licences = [len(row["text"]) for row in corpus if row["kind"] == "licence"]
    counted = manifest["files"]["corpus.jsonl"]["kinds"]["licence"]
    assert counted == {"rows": len(licences), "characters": sum(licences)}


def test_another_process_writes_the_same_bytes(folder, tmp_path):
    program = (
        "import sys, pathlib; from data_common.embedded.python_stdlib import build; build(pathlib.Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env={"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}, check=True)
    assert files_below(tmp_path) == files_below(folder)


def library(folder: Path, **modules: str | bytes) -> Path:
    for name, content in modules.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.fixture
def small_library(tmp_path, monkeypatch) -> Path:
    module = f'"""{PROSE}"""\n'
    library(
        tmp_path / "lib",
        heapq=module,
        queue=module + '\ndef get():\n    """Surrogate \\ud800: ' + "other " * 50 + '"""\n',
        ast="def broken(:\n",
        abc=b'"""\xff' + b"latin " * 50 + b'"""\n',
        json__tests__case='"""' + "test " * 100 + '"""\n',
        idlelib__editor='"""' + "editor " * 100 + '"""\n',
        sitecustomize='"""' + "site " * 100 + '"""\n',
    )
    library(tmp_path / "lib" / "site-packages", other='"""' + "package " * 100 + '"""\n')
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / "lib"))
    return tmp_path


def test_only_readable_modules_of_the_library_count_and_repeats_count_once(small_library):
    python_stdlib.build(small_library / "out")
    corpus = rows(small_library / "out" / "corpus.jsonl")
    assert sorted((row["source"], row["text"][:9]) for row in corpus) == [
        ("heapq.py", "The queue"),
        ("queue.py", "Surrogate"),
    ]
    assert "Surrogate ?:" in next(row["text"] for row in corpus if row["source"] == "queue.py")


def test_the_seed_changes_the_draw(small_library):
    python_stdlib.build(small_library / "one", seed=1)
    python_stdlib.build(small_library / "two", seed=2)
    assert (small_library / "one/heldout.jsonl").read_bytes() != (small_library / "two/heldout.jsonl").read_bytes()


def test_a_python_without_library_source_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(UserError, match="no library source"):
        python_stdlib.build(tmp_path / "out")


def test_text_of_the_reference_is_kept_out_of_the_corpus(tmp_path, monkeypatch):
    from pydoc_data.topics import topics

    copied = topics["compound"].split("\n\n")[1].replace("\n", " ")
    assert len(copied) > 200
    modules = {"heapq": f"'''Copied: {copied}'''\n", "queue": f'"""{PROSE}"""\n'}
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(library(tmp_path, **modules)))
    python_stdlib.build(tmp_path / "out")
    assert [row["source"] for row in rows(tmp_path / "out" / "corpus.jsonl")] == ["queue.py"]


def test_module_texts_takes_a_module_apart():
    licence = "# Copyright somebody.\n# Permission to use this is granted without warranty.\n"
    table = "NAMES = {\n" + "".join(f"    {number}: 'name {number}',\n" for number in range(30)) + "}"
    function = f'def first():\n    """{PROSE}"""\n    return "kept"'
    source = f'{licence}"""Short."""\n\n{table}\n\n{function}\n'
    assert list(python_stdlib.module_texts(source)) == [
        ("boilerplate", table),
        ("docstring", PROSE),
        ("licence", licence),
        ("source", '"""Short."""\n\n\ndef first():\n    return "kept"\n'),
    ]


def test_long_literals_that_hold_prose_are_source():
    source = "HELP = (\n" + '    """A line of help."""\n' * 30 + ")"
    assert list(python_stdlib.module_texts(source)) == [("source", source)]


def test_split_text_cuts_at_the_coarsest_separator():
    assert python_stdlib.split_text("one two\n\nthree\nfour\n\nfive", 11) == ["one two", "three\nfour", "five"]
    assert python_stdlib.split_text("one two\n\nthree\nfour\n\nfive", 7) == ["one two", "three", "four", "five"]
    assert python_stdlib.split_text("abcdef gh", 4) == ["abcd", "ef", "gh"]


@given(st.text(st.sampled_from("ab \n"), max_size=200), st.integers(1, 30))
def test_split_text_keeps_all_but_white_space(text, limit):
    pieces = python_stdlib.split_text(text, limit)
    assert all(len(piece) <= limit for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())
