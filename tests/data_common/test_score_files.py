"""Scores beside the text: the same rows as with the field in the text, however they are joined; no silent mismatch."""

import gzip
import json
import random

import numpy as np
import pytest

from data_common.calls.cli import main
from data_common.files.atomic import draft_of
from data_common.files.fingerprint import fingerprint
from data_common.files.manifest import Run, read_manifest
from data_common.rows import columns
from data_common.rows.jsonl import open_source
from data_ordering.entry import STAGE as ORDERING
from data_selection.entry import STAGE as SELECTION

N = 50
SCORES = np.random.default_rng(0).permutation(N) / 8
IDS = [f"dé{i}" if i % 3 else i for i in range(N)]
TOP = ["top-r", "r=0.3", "direction=higher"]


def rows_of(numbers, with_score=False):
    rows = [{"id": IDS[i], "text": f"t é {i}", "source": "ab"[i % 2]} for i in numbers]
    return [row | ({"score": SCORES[i]} if with_score else {}) for i, row in zip(numbers, rows, strict=True)]


def write(path, rows):
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    opened = gzip.open if path.name.endswith(".gz") else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.write(text)
    return path


def bound(path, corpus, write_to, fields=("score",), directions=None):
    """A score file with the manifest that scoring writes. write_to: what fills a draft of it."""
    run = Run("data_scoring", "fake", {}, {"data": [str(one) for one in corpus]}, str(path), directions or {})
    with draft_of(path) as draft:
        write_to(draft)
        run.finish(draft, corpus=[fingerprint(one) for one in corpus], fields=list(fields))


def array(path, values, *corpus, **more):
    def save(draft):
        with open(draft, "wb") as file:
            np.save(file, values)

    bound(path, corpus, save, **more) if corpus else np.save(path, values)


def lines(path, rows, *corpus, **more):
    bound(path, corpus, lambda draft: write(draft, rows), **more) if corpus else write(path, rows)


def texts(path):
    """Which rows there are, by their texts."""
    content = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [int(json.loads(line)["text"].split()[-1]) for line in content]


def best(numbers, share=0.3):
    """The oracle: of these rows the best, in their order."""
    count = int(share * len(numbers) + 1e-9)
    return [i for i in numbers if i in sorted(numbers, key=lambda i: -SCORES[i])[:count]]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.jsonl", rows_of(range(N)))
    return tmp_path


def select(*words, source="in.jsonl", out="out.jsonl", expected=0):
    assert main(SELECTION, [source, out, *TOP, *words]) == expected


def refused(capsys, *words, source="in.jsonl"):
    """The one line of an error, the same in a dry run where `--dry-run` is among the words."""
    capsys.readouterr()
    select(*words, source=source, expected=2)
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


FORMS = {
    "npy": lambda f: array(f / "s.npy", SCORES, f / "in.jsonl"),
    "npy32": lambda f: array(f / "s.npy", SCORES.astype(np.float32), f / "in.jsonl"),
    "whole": lambda f: array(f / "s.npy", (SCORES * 8).astype(np.int64), f / "in.jsonl"),
    "jsonl": lambda f: lines(f / "s.jsonl", [{"score": s} for s in SCORES], f / "in.jsonl"),
    "ids": lambda f: lines(f / "s.jsonl.gz", [{"id": IDS[i], "score": SCORES[i]} for i in random.sample(range(N), N)]),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_rows_are_those_of_the_field_in_the_text(folder, form, capsys):
    FORMS[form](folder)
    [path] = folder.glob("s.jsonl.gz" if form == "ids" else "s.*[ly]")
    select(f"scores={path.name}")
    assert f"  scores: 50, joined by {'id' if form == 'ids' else 'row number'}\n" in capsys.readouterr().out
    assert texts(folder / "out.jsonl") == best(range(N))
    kept = {i: line for i, line in enumerate((folder / "in.jsonl").read_bytes().split(b"\n"))}
    assert (folder / "out.jsonl").read_bytes() == b"".join(kept[i] + b"\n" for i in best(range(N)))
    manifest = read_manifest(folder / "out.jsonl")
    assert manifest["inputs"]["scores"][0]["xxh3"] == fingerprint(path)["xxh3"]
    assert manifest["scores"]["rows"] == N and manifest["score_out"]["1"] == SCORES.max() * (
        8 if form == "whole" else 1
    )


@pytest.mark.parametrize("form", ["npy", "ids"])
@pytest.mark.parametrize("out", ["out.jsonl", "out.jsonl.zst", "parts"])
def test_the_chain_goes_on_with_the_kept_scores(folder, form, out):
    FORMS[form](folder)
    kept = f"{out}.scores" + (".npy" if form == "npy" else ".jsonl" + (".zst" if out.endswith("zst") else ""))
    select(
        "scores=" + ("s.npy" if form == "npy" else "s.jsonl.gz"), *(["rows_per_shard=4"] * (out == "parts")), out=out
    )
    assert (read_manifest(kept)["stage"], read_manifest(kept)["fields"][-1]) == ("data_selection", "score")
    assert main(ORDERING, [out, "ordered.jsonl", "sorting", f"scores={kept}"]) == 0
    order = sorted(best(range(N)), key=lambda i: SCORES[i])
    assert texts(folder / "ordered.jsonl") == order
    if form == "npy":
        np.testing.assert_array_equal(np.load("ordered.jsonl.scores.npy"), SCORES[order])
    else:
        content = (folder / "ordered.jsonl.scores.jsonl").read_text(encoding="utf-8")
        after = [json.loads(line) for line in content.split("\n")[:-1]]
        assert after == [{"id": IDS[i], "score": SCORES[i]} for i in order]


def test_selecting_and_ordering_in_one_call_copies_and_plots(folder):
    array(folder / "s.npy", SCORES, folder / "in.jsonl", directions={"score": "higher"})
    words = ["folding", "select=top-r", "select.r=0.3", "plot=true", "scores=s.npy"]
    assert main(ORDERING, ["in.jsonl", "out.jsonl", *words]) == 0
    order = sorted(best(range(N)), key=lambda i: SCORES[i])
    assert texts(folder / "out.jsonl") == order[::3] + order[1::3] + order[2::3]
    np.testing.assert_array_equal(np.load("out.jsonl.scores.npy"), SCORES[texts(folder / "out.jsonl")])
    assert (folder / "out.jsonl.png").exists()


def test_several_fields_of_which_some_are_in_the_text(folder):
    write(folder / "in.jsonl", rows_of(range(N), with_score=True))
    lines(folder / "s.jsonl", [{"other": {"deep": -i}} for i in range(N)], folder / "in.jsonl")
    words = ["round-robin", "r=0.04", "score_fields=[score,other.deep]", "lower_is_better=[]"]
    assert main(SELECTION, ["in.jsonl", "out.jsonl", *words, "scores=s.jsonl"]) == 0
    assert texts(folder / "out.jsonl") == sorted({int(SCORES.argmax()), 0})
    write(folder / "both.jsonl", [row | {"other": {"deep": -i}} for i, row in enumerate(rows_of(range(N), True))])
    assert main(SELECTION, ["both.jsonl", "plain.jsonl", *words]) == 0
    assert texts(folder / "plain.jsonl") == texts(folder / "out.jsonl")


def test_within_groups_of_the_text(folder):
    FORMS["npy"](folder)
    select("scores=s.npy", "group_field=source")
    assert texts(folder / "out.jsonl") == sorted([*best(range(0, N, 2)), *best(range(1, N, 2))])


@pytest.mark.parametrize("kind", ["npy", "jsonl"])
@pytest.mark.parametrize("path", ["scored", "scored/*"])
def test_one_file_for_each_shard(folder, kind, path):
    """Also where the names of both sort otherwise: a.k.jsonl stands behind a.jsonl, a.k.npy before a.npy."""
    (folder / "shards").mkdir()
    (folder / "scored").mkdir()
    parts = {"a": range(7), "a.k": range(7, 9), "b": range(9, N)}
    for name, part in parts.items():
        shard = write(folder / f"shards/{name}.jsonl", rows_of(part))
        scored = folder / f"scored/{name}.{kind}"
        if kind == "npy":
            array(scored, SCORES[part], shard)
        else:
            lines(scored, [{"score": SCORES[i]} for i in part], shard)
    paths = "scored" if path == "scored" else f"scored/*.{kind}"
    select(f"scores={paths}", source="shards")
    assert texts(folder / "out.jsonl") == best(range(N))


def test_one_file_for_all_shards(folder):
    (folder / "shards").mkdir()
    shards = [
        write(folder / f"shards/{name}.jsonl.gz", rows_of(part)) for name, part in (("x", range(9)), ("y", range(9, N)))
    ]
    array(folder / "s.npy", SCORES, *shards)
    select("scores=s.npy", source="shards")
    assert texts(folder / "out.jsonl") == best(range(N))


def test_blank_lines_are_no_rows_and_bad_ones_are(folder, capsys):
    """Row numbers go on over broken rows, not over blank lines."""
    good = (folder / "in.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    mixed = [" ", *good[:5], "broken", "", "\t", *good[5:20], "[1]", *good[20:]]
    (folder / "in.jsonl").write_text("\ufeff" + "\r\n".join(mixed), encoding="utf-8")
    values = np.array([*SCORES[:5], np.nan, *SCORES[5:20], np.nan, *SCORES[20:]])
    array(folder / "s.npy", values, folder / "in.jsonl")
    error = refused(capsys, "scores=s.npy")
    assert error == "error: in.jsonl:7: no score in s.npy (2 such rows; on_bad_row=drop leaves them out)\n"
    for words in ([], ["group_field=source"]):  # without and with a field of the text
        select("scores=s.npy", "on_bad_row=drop", *words, out=f"out{len(words)}.jsonl")
    assert texts(folder / "out0.jsonl") == best(range(N))
    assert texts(folder / "out1.jsonl") == sorted([*best(range(0, N, 2)), *best(range(1, N, 2))])
    manifest = read_manifest(folder / "out0.jsonl")
    assert manifest["dropped_rows"] == {"no score in s.npy": 2} and manifest["blank_lines"] == 3
    assert sum(read_manifest(folder / "out1.jsonl")["dropped_rows"].values()) == 2


def test_lines_are_those_of_the_scan_that_reads_them(tmp_path):
    generator = random.Random(1)
    kinds = ['{"a": 1}', '{"a": "é"}', "", "  ", "\t ", '  {"a": 2} ', "{}", "\x0b"]
    for case in range(60):
        content = "".join(
            generator.choice(kinds) + generator.choice(["\n", "\r\n"]) for _ in range(generator.randrange(9))
        )
        path = tmp_path / f"{case}.jsonl"
        path.write_bytes((generator.choice(["", "\ufeff"]) + content[: -1 if case % 2 else None]).encode())
        with open_source(str(path)) as source:
            found, blank = columns.scan_lines(source), source.blank
            read = columns.scan(source, [], "drop")
            assert not source.dropped and source.blank == blank
        np.testing.assert_array_equal(found.rows.start, read.rows.start)
        np.testing.assert_array_equal(found.rows.end, read.rows.end)


def test_another_order_or_length_is_refused(folder, capsys):
    FORMS["npy"](folder)
    write(folder / "in.jsonl", rows_of([1, 0, *range(2, N)]))  # of the same size
    cure = "JSON lines are joined by id, where rows of both have it"
    cure += ", and trust_row_numbers=true takes the scores row by row"
    error = refused(capsys, "scores=s.npy")
    assert error == f"error: scores=s.npy is of another corpus than in.jsonl, or of another order of it: {cure}\n"
    array(folder / "t.npy", SCORES[:-1])
    assert f"scores=t.npy: no manifest says that it is of in.jsonl: {cure}" in refused(capsys, "scores=t.npy")
    error = refused(capsys, "scores=t.npy", "trust_row_numbers=true")
    assert error == "error: scores=t.npy has 49 rows and in.jsonl 50 (blank lines are none): it is not of it\n"
    select("scores=s.npy", "trust_row_numbers=true")
    assert texts(folder / "out.jsonl") == [{0: 1, 1: 0}.get(i, i) for i in best(range(N))]


def test_a_changed_score_file_is_not_what_its_manifest_says(folder, capsys):
    FORMS["npy"](folder)
    np.save("s.npy", SCORES[::-1])
    assert "no manifest says that it is of in.jsonl" in refused(capsys, "scores=s.npy")


def test_foreign_rows_are_read_as_usual(folder, capsys):
    """What no manifest has seen is checked: broken rows are found."""
    with open("in.jsonl", "ab") as file:
        file.write(b'{"text": "\xff"}\n')
    np.save("s.npy", np.append(SCORES, 1))
    assert "in.jsonl:51: invalid UTF-8" in refused(capsys, "scores=s.npy", "trust_row_numbers=true")


def test_ids_that_do_not_match(folder, capsys):
    scored = [{"id": IDS[i], "score": SCORES[i]} for i in range(10, N)]
    lines(folder / "s.jsonl", [*scored, {"id": "elsewhere", "score": 9}, {"id": "0", "score": 9}])
    error = refused(capsys, "scores=s.jsonl")
    assert error == "error: in.jsonl:1: no score in s.jsonl by id (10 such rows; on_bad_row=drop leaves them out)\n"
    select("scores=s.jsonl", "on_bad_row=drop")
    assert texts(folder / "out.jsonl") == best(range(10, N))
    assert "  scores: 42, joined by id, 2 of no row\n" in capsys.readouterr().out
    assert read_manifest("out.jsonl")["scores"] == {"joined_by": "id", "rows": 42, "of_no_row": 2, "of_several_rows": 0}
    lines(folder / "s.jsonl", [*scored, scored[3]])
    error = refused(capsys, "scores=s.jsonl", "on_bad_row=drop")
    assert error == "error: s.jsonl:41: its id is that of s.jsonl:4 too (1 such rows)\n"
    lines(folder / "s.jsonl", [{"id": f"no{i}", "score": 1} for i in range(3)])
    assert refused(capsys, "scores=s.jsonl", "on_bad_row=drop") == "error: in.jsonl: no row has a score in s.jsonl\n"


def test_a_row_that_is_there_twice_has_its_score_twice(folder, capsys):
    FORMS["ids"](folder)
    write(folder / "in.jsonl", rows_of([*range(N), 7]))
    assert main(SELECTION, ["in.jsonl", "out.jsonl", "top-r", "r=1", "direction=lower", "scores=s.jsonl.gz"]) == 0
    assert "joined by id, 1 of several rows" in capsys.readouterr().out
    assert texts(folder / "out.jsonl") == [*range(N), 7]


def test_another_id_field_and_rows_without_an_id(folder, capsys):
    write(folder / "in.jsonl", [{"meta": {"key": i}, "text": f"t {i}"} for i in range(N)])
    lines(folder / "s.jsonl", [{"meta": {"key": i}, "score": SCORES[i]} for i in reversed(range(N))])
    select("scores=s.jsonl", "id_field=meta.key")
    assert texts(folder / "out.jsonl") == best(range(N))
    write(folder / "in.jsonl", [{"meta": {"key": i if i else None}, "text": f"t {i}"} for i in range(N)])
    assert "in.jsonl:1: meta.key is null" in refused(capsys, "scores=s.jsonl", "id_field=meta.key")
    lines(folder / "s.jsonl", [{"meta": {"key": [i]}, "score": 1} for i in range(N)])
    write(folder / "in.jsonl", [{"meta": {"key": i}, "text": f"t {i}"} for i in range(N)])
    error = refused(capsys, "scores=s.jsonl", "id_field=meta.key")
    assert "s.jsonl:1: meta.key is a list, not a string or whole number" in error


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda f: np.save("s.npy", SCORES.reshape(2, -1)),
            "s.npy: one number a row is wanted, (rows,), not float64 (2, 25)",
        ),
        (lambda f: np.save("s.npy", SCORES > 1), "one number a row is wanted, (rows,), not bool (50,)"),
        (
            lambda f: np.save("s.npy", np.array([None, {}]), allow_pickle=True),
            "s.npy: no array of numbers can be read: ",
        ),
        (lambda f: (f / "s.npy").write_bytes(b""), "s.npy: no array of numbers can be read: "),
        (lambda f: (f / "s.npy").mkdir(), "scores=s.npy: no such file (.npy or .jsonl, .jsonl.gz, .jsonl.zst;"),
        (lambda f: None, "scores=s.npy: no such file"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_what_is_no_score_file(folder, capsys, make, message, dry):
    make(folder)
    assert message in refused(capsys, "scores=s.npy", "trust_row_numbers=true", *dry)


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_mistakes_that_a_dry_run_finds(folder, capsys, dry):
    (folder / "many").mkdir()
    np.save("many/x.npy", SCORES)
    np.save("many/y.npy", SCORES)
    assert "2 files for 1 shards, which must be named alike: in.npy for in.jsonl" in refused(
        capsys, "scores=many", *dry
    )
    lines(folder / "many/in.jsonl", [{"score": 1}])
    assert "scores=many: files of one kind are wanted" in refused(capsys, "scores=many", *dry)
    lines(folder / "s.jsonl", [{"id": 0, "quality": 1}])
    assert "scores=s.jsonl holds id, quality, and what is read is score" in refused(capsys, "scores=s.jsonl", *dry)
    lines(folder / "s.jsonl", [{"id": 0, "score": "high"}])
    assert "s.jsonl:1: score is a string, not a number" in refused(capsys, "scores=s.jsonl", *dry)
    write(folder / "s.jsonl", [])
    assert "scores=s.jsonl holds no rows" in refused(capsys, "scores=s.jsonl", *dry)
    array(folder / "s.npy", SCORES, folder / "in.jsonl", fields=["perplexity"])
    assert "scores=s.npy holds perplexity, and what is read is score" in refused(capsys, "scores=s.npy", *dry)
    array(folder / "s.npy", SCORES, write(folder / "other.jsonl", []))
    assert "is of another corpus than in.jsonl" in refused(capsys, "scores=s.npy", *dry)
    assert not list(folder.glob("out*"))


def test_directions_come_from_the_score_file_and_those_of_the_text_stay(folder, capsys):
    write(folder / "in.jsonl", rows_of(range(N), with_score=True))
    bound(folder / "in.jsonl", [], lambda draft: write(draft, rows_of(range(N), True)), directions={"score": "higher"})
    array(folder / "s.npy", SCORES, folder / "in.jsonl", directions={"score": "lower"})
    assert main(SELECTION, ["in.jsonl", "out.jsonl", "top-k", "k=3", "scores=s.npy"]) == 0
    assert texts(folder / "out.jsonl") == sorted(np.argsort(SCORES)[:3].tolist())
    assert read_manifest("out.jsonl")["directions"] == {"score": "higher"}
    assert read_manifest("out.jsonl.scores.npy")["directions"] == {"score": "lower"}


def test_a_finished_call_is_not_made_again_but_for_other_scores(folder, capsys):
    FORMS["npy"](folder)
    select("scores=s.npy")
    before = (folder / "out.jsonl").stat().st_mtime_ns
    select("scores=s.npy")
    assert (folder / "out.jsonl").stat().st_mtime_ns == before and "is up to date" in capsys.readouterr().out
    (folder / "out.jsonl.scores.npy").unlink()
    select("scores=s.npy")
    assert np.load("out.jsonl.scores.npy").tolist() == SCORES[best(range(N))].tolist()
    array(folder / "s.npy", -SCORES, folder / "in.jsonl")
    select("scores=s.npy")
    assert texts(folder / "out.jsonl") != best(range(N))


def test_nothing_of_others_is_replaced(folder, capsys):
    FORMS["npy"](folder)
    (folder / "out.jsonl.scores.npy").write_text("mine")
    assert "the scores of OUT=out.jsonl.scores.npy exists" in refused(capsys, "scores=s.npy")
    assert not (folder / "out.jsonl").exists()


def test_kept_scores_are_no_shard_of_a_folder(folder):
    (folder / "made").mkdir()
    FORMS["ids"](folder)
    select("scores=s.jsonl.gz", out="made/out.jsonl")
    assert (folder / "made/out.jsonl.scores.jsonl").exists()
    assert main(ORDERING, ["made", "all.jsonl", "shuffle"]) == 0
    assert sorted(texts(folder / "all.jsonl")) == best(range(N))
    write(folder / "made/alone.scores.jsonl", rows_of([0]))  # beside no file of that name: rows like any
    assert main(ORDERING, ["made", "all.jsonl", "shuffle", "seed=1"]) == 0
    assert len(texts(folder / "all.jsonl")) == len(best(range(N))) + 1


def test_whole_numbers_that_lose_digits_are_told(folder, capsys):
    array(folder / "s.npy", 2**60 + np.arange(N), folder / "in.jsonl")
    select("scores=s.npy")
    assert (
        "warning: 49 values of score are whole numbers beyond 2^53 that lose their last digits"
        in capsys.readouterr().err
    )
    kept = np.load("out.jsonl.scores.npy")
    assert kept.dtype == np.int64 and kept.tolist() == [2**60 + i for i in texts(folder / "out.jsonl")]
