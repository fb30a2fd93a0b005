"""Rehydration: the released weights of FineWeb2; by hand; its bins; a file."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from data_common.calls.cli import main
from data_selection.entry import STAGE
from data_selection.rehydrate.method import bins, copies, weights_of

ORACLE = Path(os.environ.get("DELT_DATA", "none"), "oracle_fineweb2_rehydration/languages.jsonl.gz")


@pytest.mark.skipif(not ORACLE.exists(), reason="FineWeb2's weights: set DELT_DATA to the folder that holds them")
@pytest.mark.parametrize("max_copies", [5, 10])
def test_the_released_weights_of_all_languages_of_five_bins_or_more(max_copies):
    compared = 0
    for line in gzip.decompress(ORACLE.read_bytes()).split(b"\n")[:-1]:
        language = json.loads(line)
        known = language["distribution"]
        sizes = [*known["cluster_sizes"], known["tail_threshold"]]
        rates = np.array([*known["cluster_removal_rates"], known["tail_removal_rate"]])
        if len(sizes) >= 5:
            found = weights_of(rates / 100, known["global_removal_rate"] / 100, max_copies)
            changes = {str(sizes[place]): int(found[place]) for place in np.flatnonzero(np.diff(found, prepend=0))}
            assert changes == language[f"weights_max_{max_copies}"], language["language"]
            compared += 1
    assert compared == 1844


def test_by_hand():
    """Of 4 rows of count 1 two fail, of 4 of count 2 none, of 4 of count 9 all: six of twelve."""
    counts = np.repeat([1, 2, 9], 4)
    broken = np.array([0, 0, 1, 3, 0, 0, 0, 0, 1, 1, 2, 1.0])
    found, facts = copies(broken, False, counts, threshold=0.0, max_copies=4, tail=0.0)
    assert found.tolist() == [1, 1, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0]
    assert facts == {"rows_that_fail": 6, "copies_from_duplicate_count_on": {"1": 1, "2": 4, "9": 1}}
    assert copies(-broken, True, counts, threshold=0.0, max_copies=4, tail=0.0)[0].tolist() == found.tolist()


def test_weights_fall_as_more_rows_fail_and_stay_within_1_and_the_most():
    rates = np.array([0.1, 0.2, 0.3, 0.9])
    assert weights_of(rates, 0.3, 11).tolist() == [11, 6, 1, 1]
    assert weights_of(np.array([0.5, 0.5]), 0.5, 9).tolist() == [1, 1]
    assert weights_of(rates, 0.3, 1).tolist() == [1] * 4
    assert weights_of(np.array([0.1, 0.1, 0.1, 0.3, 0.3, 0.3]), 0.3, 11).tolist() == [11, 11, 7, 5, 1, 1]


def test_the_largest_counts_are_one_bin():
    counts = np.repeat([1, 2, 3, 7, 8, 9], [50, 20, 20, 5, 3, 2])
    assert bins(counts, 0.1).tolist() == [1, 2, 3, 7]
    assert bins(counts, 0.09).tolist() == [1, 2, 3, 7, 8]
    assert bins(counts, 0.0).tolist() == bins(counts, 0.02).tolist() == [1, 2, 3, 7, 8, 9]
    assert bins(counts, 1.0).tolist() == [1]


def test_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [{"broken": int(i % 4 == 0), "copies": 1 + (i > 7), "id": i} for i in range(12)]
    rows[9]["broken"] = rows[10]["broken"] = 1
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["in.jsonl", "out.jsonl", "rehydrate", "score_field=broken", "duplicates_field=copies", "direction=lower"]
    assert main(STAGE, [*words, "max_copies=3"]) == 0
    ids = [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]]
    kept = [1, 2, 3, 5, 6, 7]
    assert ids == [*kept, 11, *kept, *kept]  # of count 1 a quarter fails, of count 2 three quarters
    assert main(STAGE, [*words, "max_copies=11"]) == 2
    assert "max_repeats=11 allows them" in capsys.readouterr().err
    for bad in (0, 1.5, -3):
        (tmp_path / "in.jsonl").write_text(json.dumps(rows[0]) + "\n" + json.dumps(rows[0] | {"copies": bad}) + "\n")
        assert main(STAGE, words) == 2
        assert f"in.jsonl:2: copies is {bad}, which is no number of rows" in capsys.readouterr().err
