"""The contract of methods that rewrite: a text is replaced in its line, and all else stays."""

import json

import pytest

from data_common.calls.cli import main
from data_common.calls.stage import load_method
from data_common.messages.errors import UserError
from data_ordering.entry import STAGE as ORDERING
from data_selection.entry import STAGE
from data_selection.rewriting import Rewriter


def rewrite(text: str, note: str | None, *, note_field: str | None = None) -> tuple[str | None, str]:
    """Upper case; a text that is `drop` is dropped; a note is added."""
    return (None, "dropped") if text == "drop" else (text.upper() + (note or ""), "upper")


def call(folder, *words, name="prox"):
    return main(STAGE, [str(folder / "in.jsonl"), str(folder / "out.jsonl"), name, *words])


def test_only_the_value_of_the_text_changes():
    rewriter = Rewriter(rewrite, {"note_field": "n"}, text_field="t", original_field="was")
    line = b'{ "a": 1152921504606846977, "t" : "a\\u00e9\\u2028", "b":1e5 , "n": ["x", "y"] }'
    assert rewriter.line(line) == (
        '{ "a": 1152921504606846977, "t" : "AÉ\u2028x\\ny", "b":1e5 , "n": ["x", "y"] , "was": "aé\u2028"}'.encode()
    )


def test_a_text_that_stays_the_same_keeps_its_spelling():
    line = b'{"t":"\\u0041\\/B"}'
    assert Rewriter(rewrite, {"note_field": None}, text_field="t", original_field="was").line(line) == line


def test_a_list_of_strings_becomes_one_text_where_it_changes():
    assert Rewriter(rewrite, {"note_field": None}).line(b'{"text":["a","b"]}') == b'{"text":"A\\nB"}'


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"text_field": "n"}, "n is asked for twice"), ({"original_field": "text"}, "text is asked for twice"),
     ({"text_field": "meta.text"}, "only a field of the row itself")],
)  # fmt: skip
def test_fields_that_do_not_go_together(keys, message):
    with pytest.raises(UserError, match=message):
        Rewriter(rewrite, {"note_field": "n"}, **keys)


def write(folder, rows):
    (folder / "in.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


ROWS = [
    {"text": "Home | About | Help\nSome words of a page that go on for a while, more than ten.", "id": 2**60 + 1},
    {"text": "Home | About | Help", "id": 2},
    {"text": "plain", "id": 3},
]


def test_dropped_rows_are_counted_and_go_to_rejects_as_they_were(tmp_path, capsys):
    write(tmp_path, ROWS)
    assert call(tmp_path, f"rejects={tmp_path / 'no.jsonl'}", "original_field=was") == 0
    printed = capsys.readouterr().out
    assert "kept 2 of 3 rows" in printed and "refined 1, dropped by its program 1, kept as it is 1" in printed
    kept = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]]
    assert kept == [{"text": ROWS[0]["text"].split("\n")[1], "id": 2**60 + 1, "was": ROWS[0]["text"]}, ROWS[2]]
    assert json.loads((tmp_path / "no.jsonl").read_text()) == ROWS[1]
    facts = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())["rewriting"]
    assert sum(facts["rows"].values()) == 3 and facts["characters"] == {
        "before": sum(len(row["text"]) for row in ROWS), "after": sum(len(row["text"]) for row in kept)
    }  # fmt: skip


def test_the_old_text_needs_a_field_that_is_free(tmp_path, capsys):
    write(tmp_path, ROWS)
    assert call(tmp_path, "original_field=id") == 2
    assert "in.jsonl:1: id is there already: choose another original_field" in capsys.readouterr().err


def test_shards_and_a_rerun(tmp_path, capsys):
    write(tmp_path, ROWS)
    assert call(tmp_path, "rows_per_shard=1") == 0
    parts = sorted((tmp_path / "out.jsonl").iterdir())
    assert [len(part.read_text().split("\n")) for part in parts] == [2, 2]
    before = [part.stat().st_mtime_ns for part in parts]
    assert call(tmp_path, "rows_per_shard=1") == 0
    assert [part.stat().st_mtime_ns for part in parts] == before


def test_ordering_copies_rows_and_so_refuses(tmp_path, capsys):
    write(tmp_path, ROWS)
    assert main(ORDERING, [str(tmp_path / "in.jsonl"), str(tmp_path / "o.jsonl"), "shuffle", "select=prox"]) == 2
    assert "call data_selection first" in capsys.readouterr().err


def test_a_row_without_its_program_is_a_bad_row(tmp_path, capsys):
    write(tmp_path, [*ROWS, {"text": "x y", "p": "keep_chunk()"}])
    words = ["programs=fields", "chunk_program_field=p"]
    assert call(tmp_path, *words) == 2
    assert "in.jsonl:1: p is missing" in capsys.readouterr().err
    assert call(tmp_path, *words, "on_bad_row=drop") == 0
    assert json.loads((tmp_path / "out.jsonl").read_text())["p"] == "keep_chunk()"


def test_its_contract_is_found():
    assert load_method(STAGE, "prox")[0].__name__ == "rewrite"
