"""Specialized pretraining: exact accounts; its limits; training on such a file."""

import json
from collections import Counter

import numpy as np
import pytest

from data_common.calls.cli import main
from data_common.messages.errors import UserError
from data_ordering.entry import STAGE
from data_ordering.spt.method import schedule
from model_train.entry import STAGE as TRAINING
from tests.models import save_model

RNG = np.random.default_rng(0)
NAMES = ["web", "music", "book"]
GROUP = RNG.choice(3, 400, p=[0.6, 0.05, 0.35])
TOKENS = RNG.integers(1, 40, 400)
MUSIC = GROUP == 1


@pytest.mark.parametrize("delta", [0.01, 0.05, 0.1])
@pytest.mark.parametrize("start", [0.0, 0.9])
def test_the_tokens_of_the_domain_and_its_passes(delta, start):
    total = 60_000
    phases = schedule(GROUP, NAMES, TOKENS, domain=["music"], domain_share=delta, start=start, tokens=total)
    rows = phases["mixed"]
    wanted = delta * (1 - start) * total
    assert abs(TOKENS[rows[MUSIC[rows]]].sum() - wanted) <= 20
    assert abs(TOKENS[rows].sum() - (1 - start) * total) <= 60
    counts = np.bincount(rows, minlength=400)[MUSIC]
    passes = wanted / TOKENS[MUSIC].sum()
    assert set(counts.tolist()) <= {int(passes) - (passes % 1 < 0.02), int(passes), int(passes) + 1}
    if start:
        assert abs(TOKENS[phases["general"]].sum() - start * total) <= 20 and not MUSIC[phases["general"]].any()


def test_without_the_domain_it_is_the_stream_of_the_general_pool():
    alone = schedule(GROUP, NAMES, TOKENS, domain=["music"], domain_share=0)["mixed"]
    assert sorted(alone) == np.flatnonzero(~MUSIC).tolist()
    mixed = schedule(GROUP, NAMES, TOKENS, domain=["music"], domain_share=0.1)["mixed"]
    assert mixed[~MUSIC[mixed]].tolist() == alone.tolist()  # the general pool once, in the same order
    late = schedule(GROUP, NAMES, TOKENS, domain=["music"], domain_share=0.1, start=0.7)
    both = np.concatenate([late["general"], late["mixed"]])
    assert both[~MUSIC[both]].tolist() == alone.tolist()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"domain": ["jazz"]}, "domain: no row is of the group jazz .groups are web, music, book"),
        ({"domain": []}, "domain: name at least one group"),
        ({"domain": ["music"], "domain_share": 1.0}, "domain_share=1 leaves the general pool unused: set tokens"),
    ],
)
def test_mistakes(keys, message):
    with pytest.raises(UserError, match=message):
        schedule(GROUP, NAMES, TOKENS, **keys)


def test_an_empty_group_is_refused_in_one_line(tmp_path, capsys):
    rows = [{"kind": kind, "text": "" if kind == "music" else "some text"} for kind in ("web", "music")]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "spt", "group_field=kind", "domain=[music]"]
    assert main(STAGE, words) == 2
    assert "error: the group music has no tokens: nothing can be drawn of it\n" in capsys.readouterr().err
    assert main(STAGE, [*words[:3], "domain=[music]"]) == 2
    assert "all rows are one group: set group_field=FIELD" in capsys.readouterr().err
    assert main(STAGE, [*words[:4], "domain=[web,music]"]) == 2  # no general pool
    assert "error: the schedule has no row: what it draws has no tokens" in capsys.readouterr().err


def test_training_takes_the_rows_as_often_as_they_are_there(tmp_path):
    words = ["the", "a", "of", "row", "word", "text", "and", "some", "more"]
    rows = [{"kind": "music" if i < 3 else "web", "text": " ".join(RNG.choice(words, 9)), "id": i} for i in range(30)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = str(save_model(tmp_path / "model"))
    call = [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "spt", "group_field=kind", "domain=[music]"]
    assert main(STAGE, [*call, "domain_share=0.4", f"tokenizer={model}"]) == 0
    account = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())["schedule"][-1]
    out = [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]]
    assert max(Counter(out).values()) > 2
    keys = [
        "max_length=32",
        "batch_size=2",
        "gradient_accumulation_steps=1",
        "warmup_steps=1",
        "device=cpu",
        "epochs=1",
    ]
    assert main(TRAINING, [str(tmp_path / "out.jsonl"), model, str(tmp_path / "trained"), "pretrain", *keys]) == 0
    trained = json.loads((tmp_path / "trained.manifest.json").read_text())
    assert trained["trained_tokens"] == account["tokens"] - 1  # the first token of all is predicted by nothing
