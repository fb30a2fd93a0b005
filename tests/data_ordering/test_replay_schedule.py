"""Replay: the counts by definition, where replayed rows come from, and the account in the manifest."""

import json
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from data_common.calls.cli import main
from data_ordering.entry import STAGE
from data_ordering.replay.method import schedule


@given(st.integers(0, 70), st.integers(1, 80), st.sampled_from(["0", "0.1", "0.25", "0.3", "0.5"]), st.booleans())
def test_blocks_by_definition(n, blocks, share, ascending):
    score = np.random.default_rng(n).permutation(n).astype(float)
    rows = schedule(score, blocks=blocks, replay_share=float(share), ascending=ascending, seed=n).tolist()
    ranked = sorted(range(n), key=lambda row: score[row] if ascending else -score[row])
    ratio, count = Fraction(share) / (1 - Fraction(share)), max(1, min(blocks, n))
    seen, begin, replayed, later = set(), 0, 0, 0
    for block in range(count):
        own = ranked[begin : begin + n // count + (block < n % count)]
        later += len(own) if block else 0
        extra, replayed = round(later * ratio) - replayed, round(later * ratio)
        part, rows = rows[: len(own) + extra], rows[len(own) + extra :]
        again = [row for row in part if row in seen]
        assert [row for row in part if row not in seen] == own
        assert len(again) == extra == len(set(again))
        seen, begin = seen | set(own), begin + len(own)
    assert not rows and len(seen) == n


def test_the_share_of_the_later_blocks_is_exact_over_the_whole():
    rows = schedule(np.arange(1000.0), blocks=10, replay_share=0.1)
    assert len(rows) == 1100  # 900 own rows of later blocks are nine tenths of them
    assert (np.bincount(rows) >= 1).all() and rows[:100].tolist() == list(range(100))


def test_replayed_rows_and_their_places_are_uniform():
    drawn, places = Counter(), Counter()
    for seed in range(1500):
        part = schedule(np.arange(8.0), blocks=2, replay_share=0.2, seed=seed)[4:]
        [place] = np.flatnonzero(part < 4)
        drawn[int(part[place])] += 1
        places[int(place)] += 1
    assert sorted(drawn) == [0, 1, 2, 3] and chisquare(list(drawn.values())).pvalue > 1e-3
    assert sorted(places) == [0, 1, 2, 3, 4] and chisquare(list(places.values())).pvalue > 1e-3


@pytest.mark.parametrize("keys", [{"blocks": 1}, {"replay_share": 0.0}])
def test_nothing_to_replay_is_sorting(keys):
    score = np.random.default_rng(0).random(30)
    assert schedule(score, **keys).tolist() == np.argsort(score).tolist()


def test_the_manifest_tells_how_many_rows_were_added(tmp_path, capsys):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"score": n}) + "\n" for n in range(40)))
    words = [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "replay", "blocks=4", "replay_share=0.25"]
    assert main(STAGE, words) == 0
    account = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())["schedule"]
    groups = [{"group": "all", "rows": 50, "share": 1, "passes": 1.25}]
    assert account == [{"phase": "all", "rows": 50, "groups": groups}]
    assert len((tmp_path / "out.jsonl").read_text().split("\n")[:-1]) == 50
    assert main(STAGE, [*words, "replay_share=0.6"]) == 2
    assert "replay_share" in capsys.readouterr().err
