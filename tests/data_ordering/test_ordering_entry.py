"""What ordering does around a method: windows, the picture, selecting in the same call."""

import json

import numpy as np
import pytest

from data_common.calls.cli import main
from data_common.calls.stage import keys_for, load_method, method_names
from data_ordering.entry import STAGE
from data_selection.entry import STAGE as SELECTION
from tests.records import declare

N = 40
RNG = np.random.default_rng(0)
ROWS = [
    {"score": s, "ppl": p, "meta": {"source": g, "tokens": t}, "text": "x" * t}
    for s, p, g, t in zip(
        RNG.integers(0, 9, N).tolist(),
        RNG.random(N).tolist(),
        RNG.integers(0, 3, N).tolist(),
        RNG.integers(1, 20, N).tolist(),
        strict=True,
    )
]
CHOICES = {
    "top-r": ["r=0.5", "direction=higher"],
    "top-k": ["k=17", "direction=lower"],
    "threshold": ["threshold=0.4", "score_field=ppl", "direction=higher"],
    "gumbel": ["seed=3", "group_field=meta.source", "direction=higher"],
    "quantile": ["lower_quantile=0.2"],
    "token-budget": ["tokens=120", "tokens_field=meta.tokens", "direction=higher"],
    "quality-copies": ["threshold=0.3", "group_field=meta.source", "tokens_field=meta.tokens", "lower_is_better=[]"],
    "deita": ["r=0.5", "similarity=1", "direction=higher"],
    "round-robin": ["r=0.4", "score_fields=[score,ppl]", "lower_is_better=[ppl]"],
    "random": ["r=0.5"],
    "adaptive-threshold": ["tail=0.3", "direction=higher"],
    "semdedup": ["similarity=1", "clusters=3"],
    "d4": ["r=0.5", "similarity=1", "clusters=3"],
    "kmq": ["r=0.5", "clusters=3", "direction=higher"],
    "group-mates": ["r=0.5", "clusters=3", "direction=higher"],
    "s2l": ["r=0.4", "clusters=3", "score_fields=[score,ppl]", "lower_is_better=[]"],
    "rehydrate": ["threshold=4", "tail=0", "duplicates_field=meta.tokens", "direction=higher"],
}
COPYING = ("quality-copies", "rehydrate")
OF_GROUPS = ["group_field=meta.source", "tokens_field=meta.tokens", "tokens=300"]
SCHEDULES = {
    "spt": [*OF_GROUPS, 'domain=["1"]', "domain_share=0.3"],
    "replay": [],
    "domain-upsampling": [*OF_GROUPS, "base={'0': 1, '2': 2, '1': 1}", "final_share=0"],
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path


def call(stage, folder, source, target, *words, expected=0):
    assert main(stage, [str(folder / source), str(folder / target), *words]) == expected
    return (folder / target).read_bytes() if not expected else None


@pytest.mark.parametrize("ordering", method_names("data_ordering"))
def test_windows_shuffle_inside_and_never_across(folder, ordering):
    own = SCHEDULES.get(ordering, [])
    seeded = "seed" in keys_for(STAGE, load_method(STAGE, ordering)[0])[1]
    plain = call(STAGE, folder, "in.jsonl", "plain.jsonl", ordering, "seed=5", *own).split(b"\n")[:-1]
    assert len(plain) == N or ordering in SCHEDULES
    for size in (0, 1, 7, 99):
        keys = [f"window_size={size}", "seed=5", *own]
        windows = call(STAGE, folder, "in.jsonl", "windows.jsonl", ordering, *keys).split(b"\n")[:-1]
        assert (windows == plain) == (size < 2)
        for first in range(0, len(plain), max(size, 1)):
            assert sorted(windows[first : first + size]) == sorted(plain[first : first + size])
        (folder / "windows.jsonl").unlink()
        assert call(STAGE, folder, "in.jsonl", "windows.jsonl", ordering, *keys).split(b"\n")[:-1] == windows
        other = call(STAGE, folder, "in.jsonl", "other.jsonl", ordering, keys[0], "seed=6", *own).split(b"\n")[:-1]
        assert (other == windows) == (size < 2 and not seeded)


def test_every_selection_is_chosen_but_those_that_rewrite():
    assert {*CHOICES, "prox"} == set(method_names("data_selection"))


@pytest.mark.parametrize("selection", CHOICES)
@pytest.mark.parametrize("ordering", method_names("data_ordering"))
def test_one_call_is_the_chain_of_two(folder, ordering, selection):
    keys = CHOICES[selection]
    call(SELECTION, folder, "in.jsonl", "middle.jsonl", selection, *keys)
    own = ["window_size=3", *SCHEDULES.get(ordering, [])]
    chain = call(STAGE, folder, "middle.jsonl", "chain.jsonl", ordering, *own)
    selecting = [f"select={selection}", *(f"select.{key}" for key in keys)]
    assert call(STAGE, folder, "in.jsonl", "one.jsonl", ordering, *own, *selecting) == chain
    assert chain.count(b"\n") > 2 and (chain.count(b"\n") < N or ordering in SCHEDULES or selection in COPYING)
    facts = json.loads((folder / "one.jsonl.manifest.json").read_text())
    assert facts["rows_in"] == N and facts["rows_out"] == chain.count(b"\n")
    assert facts["config"]["select"] == selection and facts["config"]["select." + keys[0].split("=")[0]] is not None
    assert ("groups" in facts) == (selection in ("gumbel", "quality-copies"))
    assert ("copies" in facts) == (selection in COPYING) and ("schedule" in facts) == (ordering in SCHEDULES)


def test_selecting_honours_the_direction_that_scoring_declared(folder):
    declare(folder / "in.jsonl", {"score": "lower"})
    out = call(STAGE, folder, "in.jsonl", "out.jsonl", "sorting", "select=top-k", "select.k=5")
    assert [json.loads(line)["score"] for line in out.split(b"\n")[:-1]] == sorted(row["score"] for row in ROWS)[:5]
    facts = json.loads((folder / "out.jsonl.manifest.json").read_text())
    assert facts["directions"] == {"score": "lower"}


def test_the_score_field_of_ordering_is_that_of_selection_unless_said(folder, capsys):
    assert main(STAGE, ["a", "b", "sorting", "select=top-r", "score_field=ppl", "--dry-run=keys"]) == 0
    assert "select.score_field: ppl" in capsys.readouterr().out
    keys = ["select=top-k", "select.k=6", "select.score_field=score", "select.direction=higher", "score_field=ppl"]
    out = call(STAGE, folder, "in.jsonl", "out.jsonl", "sorting", *keys)
    found = [json.loads(line) for line in out.split(b"\n")[:-1]]
    assert sorted(row["score"] for row in found) == sorted(row["score"] for row in ROWS)[-6:]
    assert [row["ppl"] for row in found] == sorted(row["ppl"] for row in found)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["select=topr"], "data_selection has no method 'topr'; did you mean 'top-r'?"),
        (["select=top-r", "select.rr=1"], "unknown key 'select.rr'; did you mean 'select.r'?"),
        (["select=top-r", "select.r=2"], "select.r: 2 is not valid"),
        (["select.r=0.5"], "unknown key 'select.r': it needs select=METHOD"),
        (["select=token-budget", "select.tokens_fild=1"], "did you mean 'select.tokens_field'?"),
        (["window_size=-1"], "window_size: -1 is not valid"),
        (["rows_per_shard=0"], "rows_per_shard: 0 is not valid"),
        (["group_field=x"], "unknown key 'group_field'"),
    ],
)
def test_mistakes_are_found_before_the_input_is_looked_for(words, message, capsys):
    assert main(STAGE, ["in.jsonl", "out.jsonl", "folding", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_nothing_kept_is_nothing_to_order(folder, capsys):
    keys = ["select=top-k", "select.k=0", "select.direction=higher"]
    call(STAGE, folder, "in.jsonl", "out.jsonl", "sorting", *keys, expected=2)
    assert "top-k keeps no row: there is nothing to order" in capsys.readouterr().err


def test_help_shows_the_keys_of_the_selection(capsys):
    assert main(STAGE, ["folding", "--help", "select=token-budget"]) == 0
    shown = capsys.readouterr().out
    assert "select.tokens  (int >= 1; default 1000000)" in shown and "select.tokens_field" in shown


def test_selecting_keys_may_stand_in_the_configuration(folder):
    (folder / "my.yaml").write_text("folding_layer: 2\nselect: top-k\nselect.k: 4\nselect.direction: lower\n")
    out = call(STAGE, folder, "in.jsonl", "out.jsonl", "folding", str(folder / "my.yaml"))
    kept = sorted(json.loads(line)["score"] for line in out.split(b"\n")[:-1])
    assert kept == sorted(row["score"] for row in ROWS)[:4]


@pytest.mark.parametrize("ordering", ["folding", "shuffle"])
def test_plot_draws_the_new_order(folder, ordering, monkeypatch):
    from data_ordering import entry

    drawn = []
    draw = entry.draw
    monkeypatch.setattr(entry, "draw", lambda score, *rest: drawn.append(score) or draw(score, *rest))
    out = call(STAGE, folder, "in.jsonl", "out.jsonl", ordering, "plot=true", "score_field=ppl")
    assert drawn[0].tolist() == [json.loads(line)["ppl"] for line in out.split(b"\n")[:-1]]
    assert (folder / "out.jsonl.png").read_bytes().startswith(b"\x89PNG")


def test_shuffle_needs_a_score_only_for_the_picture(folder, capsys):
    (folder / "in.jsonl").write_text('{"a": 1}\n')
    call(STAGE, folder, "in.jsonl", "out.jsonl", "shuffle")
    call(STAGE, folder, "in.jsonl", "out.jsonl", "shuffle", "plot=true", expected=2)
    assert "in.jsonl:1: score is missing" in capsys.readouterr().err


def test_a_picture_of_another_order_does_not_stay(tmp_path):
    (tmp_path / "in.jsonl").write_text("".join(f'{{"score": {n}}}\n' for n in range(9)))
    words = [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")]
    assert main(STAGE, [*words, "shuffle", "plot=true"]) == 0 and (tmp_path / "out.jsonl.png").exists()
    assert main(STAGE, [*words, "sorting"]) == 0 and not (tmp_path / "out.jsonl.png").exists()
    (tmp_path / "out.jsonl.png").write_text("of the user")
    assert main(STAGE, [*words, "folding"]) == 0 and (tmp_path / "out.jsonl.png").exists()


def test_the_cure_for_an_unknown_direction_is_the_key_of_this_call(tmp_path, capsys):
    (tmp_path / "in.jsonl").write_text('{"ppl": 3}\n{"ppl": 4}\n')
    words = [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "folding", "score_field=ppl", "select=top-r"]
    assert main(STAGE, words) == 2
    cure = "set select.direction=higher (the highest are kept) or select.direction=lower\n"
    assert cure in capsys.readouterr().err
    assert main(STAGE, [*words[:-1], "select=quantile"]) == 2
    assert "beside select=quantile, select.direction" in capsys.readouterr().err
    assert main(STAGE, [*words, "select.direction=lower"]) == 0
