"""Domain upsampling: exact accounts of each phase; its limits; a file."""

import json
from collections import Counter

import numpy as np
import pytest

from data_common.calls.cli import main
from data_common.messages.errors import UserError
from data_ordering.domain_upsampling.method import schedule
from data_ordering.entry import STAGE

RNG = np.random.default_rng(0)
NAMES = ["web", "code", "book"]
GROUP = RNG.choice(3, 300, p=[0.8, 0.1, 0.1])
TOKENS = RNG.integers(1, 40, 300)


def shares(rows):
    found = np.bincount(GROUP[rows], TOKENS[rows], 3)
    return found, found.sum()


@pytest.mark.parametrize("final_share", [0.05, 0.2, 0.5])
def test_the_tokens_of_each_phase(final_share):
    """The mixes of the paper, of three groups: 34.35 + 36.70, 21.78, 7.17 per cent; then 30, 35, 35."""
    base, final = {"web": 71.05, "code": 21.78, "book": 7.17}, {"web": 30.0, "code": 35.0, "book": 35.0}
    phases = schedule(GROUP, NAMES, TOKENS, base=base, final=final, final_share=final_share, tokens=9000)
    for phase, weights, size in (("base", base, 1 - final_share), ("final", final, final_share)):
        found, total = shares(phases[phase])
        assert (np.abs(found - np.array(list(weights.values())) / 100 * size * 9000) <= 40).all()
        assert abs(total - size * 9000) <= 3 * 40


def test_the_base_phase_is_the_beginning_of_the_base_run():
    base = schedule(GROUP, NAMES, TOKENS, final_share=0)
    some = schedule(GROUP, NAMES, TOKENS, final_share=0.2)
    assert some["base"].tolist() == base["base"][: len(some["base"])].tolist()
    assert not len(base["final"]) and len(some["final"])


def test_as_the_tokens_lie_in_the_file_every_row_comes_once():
    assert sorted(schedule(GROUP, NAMES, TOKENS, final_share=0)["base"]) == list(range(300))
    weights = dict(zip(NAMES, np.bincount(GROUP, TOKENS, 3).tolist(), strict=True))
    phases = schedule(GROUP, NAMES, TOKENS, final=weights, final_share=0.4)
    assert sorted(np.concatenate(list(phases.values()))) == list(range(300))


def test_a_final_share_of_one_is_the_upsampled_stream():
    final = {"code": 1.0, "book": 1.0}
    phases = schedule(GROUP, NAMES, TOKENS, final=final, final_share=1, tokens=5000)
    alone = schedule(GROUP, NAMES, TOKENS, base=final, final_share=0, tokens=5000)
    assert phases["final"].tolist() == alone["base"].tolist() and set(GROUP[phases["final"]]) == {1, 2}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"base": {"news": 1.0}}, "base: no row is of the group news .groups are web, code, book"),
        ({"final": {"web": 0.0}}, "final: give a group a weight above 0"),
        ({"final": {}}, "final: give a group a weight above 0"),
    ],
)
def test_weights_that_do_not_fit(keys, message):
    with pytest.raises(UserError, match=message):
        schedule(GROUP, NAMES, TOKENS, **keys)


def test_a_file_and_its_accounts(tmp_path, capsys):
    rows = [{"id": i, "kind": "web" if i % 5 else "code", "n": 10 + i % 7} for i in range(100)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "domain-upsampling", "group_field=kind"]
    words += ["tokens_field=n", "final={code: 1}", "final_share=0.5", "tokens=2000"]
    assert main(STAGE, words) == 0
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]]
    facts = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    base, final, whole = facts["schedule"]
    assert [one["phase"] for one in facts["schedule"]] == ["base", "final", "all"]
    for account, part in ((base, out[: base["rows"]]), (final, out[base["rows"] :]), (whole, out)):
        assert account["rows"] == len(part) and account["tokens"] == sum(row["n"] for row in part)
        for one in account["groups"]:
            inside = [row for row in part if row["kind"] == one["group"]]
            there = sum(row["n"] for row in rows if row["kind"] == one["group"])
            tokens = sum(row["n"] for row in inside)
            assert (one["rows"], one["tokens"]) == (len(inside), tokens)
            assert one["share"] == pytest.approx(tokens / account["tokens"], abs=1e-6)
            assert one["passes"] == pytest.approx(tokens / there, abs=1e-6)
    assert {row["kind"] for row in out[base["rows"] :]} == {"code"}
    assert max(Counter(row["id"] for row in out).values()) > 3
    assert "phase final: " in capsys.readouterr().out
    assert main(STAGE, [*words, "window_size=50"]) == 0
    windows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]]
    assert windows != out and {row["kind"] for row in windows[base["rows"] :]} == {"code"}  # phases stay apart


@pytest.mark.parametrize("keys", [["tokens_field=none"], ["tokens_field=n", "tokens=1"]])
def test_a_schedule_without_rows_is_no_output(tmp_path, capsys, keys):
    (tmp_path / "in.jsonl").write_text(json.dumps({"n": 10, "none": 0}) + "\n")
    assert main(STAGE, [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "domain-upsampling", *keys]) == 2
    assert "error: the schedule has no row: " in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()
