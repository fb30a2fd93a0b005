"""plan.yaml as objects: the sizes, the arms, and what each needs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent
REPOSITORY = FOLDER.parent.parent
Call = str  # STAGE METHOD key=value ...: the words around IN and OUT of a call of a stage


@dataclass(frozen=True)
class Sizes:
    """How much text there is."""

    chunk_tokens: int
    warm: int
    pool: int
    corpus: int
    target: int
    heldout_target: int
    max_tokens: int
    main_target: str


@dataclass(frozen=True)
class Score:
    """A file of the pool with one more score."""

    source: str
    call: Call


@dataclass(frozen=True)
class Arm:
    """What is done with the corpus before training on it, and how the training differs from that of others."""

    name: str
    calls: Sequence[Call]
    training: Mapping[str, Any]
    source: str  # the scored file that has all fields of the calls


@dataclass(frozen=True)
class Cell:
    """One training run."""

    arm: Arm
    seed: int
    block: int  # number of the warm start

    @property
    def name(self) -> str:
        return f"{self.arm.name}-{self.seed}"


@dataclass(frozen=True)
class Plan:
    """The study on one source of data, `real` or `embedded`."""

    data: str
    sizes: Sizes
    blocks: int
    training: Mapping[str, Any]
    warm_training: Mapping[str, Any]
    annotator_passes: int
    tuning: Sequence[Mapping[str, float]]
    corpus: Sequence[Call]
    scores: Mapping[str, Score]
    arms: Mapping[str, Arm]
    second_target: str
    rounds: Sequence[Mapping[str, Any]]
    accuracy: Mapping[str, Any]
    contrasts: Mapping[str, Sequence[tuple[str, str]]]
    pilot: Sequence[tuple[str, str, float, float | None]]
    paper: Mapping[str, float]
    cross: Mapping[str, Any]

    def cells(self) -> list[Cell]:
        """All cells in the order of the rounds, each once."""
        wanted = ((name, seed) for part in self.rounds for seed in range(part["seeds"]) for name in part["arms"])
        return [Cell(self.arms[name], seed, seed % self.blocks) for name, seed in dict.fromkeys(wanted)]

    def cross_cells(self) -> list[Cell]:
        """Orders with schedules of the learning rate, in the order of their rounds."""
        cells = []
        for part in self.cross["rounds"]:
            for seed in range(part["seeds"]):
                schedules = part.get("schedules", self.cross["schedules"])
                arms = [self.crossed(order, name) for order in part["orders"] for name in schedules]
                cells += [Cell(arm, seed, seed % self.blocks) for arm in arms]
        return list({cell.name: cell for cell in cells}.values())

    def crossed(self, order: str, schedule: str) -> Arm:
        """The arm ORDER.SCHEDULE, whose weights are averaged too."""
        training = dict(self.cross["schedules"][schedule]) | dict(self.cross["average"])
        entry = {"calls": self.cross["orders"][order], "training": training}
        return arm(f"{order}.{schedule}", entry, self.scores)

    def tuning_cells(self) -> list[Cell]:
        """The arm `shuffle` with the learning rates and batch sizes to choose from, one seed."""
        names = ["-".join(("tuning", *(f"{value:g}" for value in values.values()))) for values in self.tuning]
        return [Cell(Arm(name, (), values, "pool"), 0, 0) for name, values in zip(names, self.tuning, strict=True)]

    def accuracy_cells(self) -> list[Cell]:
        """The cells whose models answer multiple-choice questions too."""
        return [
            cell
            for cell in self.cells()
            if cell.arm.name in self.accuracy["arms"] and cell.seed < self.accuracy["seeds"]
        ]

    def identity(self, cell: Cell, data_hash: str) -> str:
        """A hash of all that the result of a cell follows from, but for the code."""
        return digest(
            {
                "data": data_hash,
                "sizes": asdict(self.sizes),
                "corpus": self.corpus,
                "calls": cell.arm.calls,
                "scores": self.made_from(cell.arm.source),
                "training": dict(self.training) | dict(cell.arm.training),
                "warm": [dict(self.warm_training), self.annotator_passes],
                "seed": [cell.seed, cell.block],
            }
        )

    def made_from(self, score: str) -> list[dict]:
        """How a score was made, and the scores in the file that it was added to."""
        if score not in self.scores:
            return []
        return [asdict(self.scores[score]), *self.made_from(self.scores[score].source)]


def digest(facts: Any) -> str:
    """A short hash of what something follows from."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def load(data: str) -> Plan:
    """The plan for `real` or `embedded` data."""
    content = yaml.safe_load((FOLDER / "plan.yaml").read_text(encoding="utf-8"))
    influence = content["influence"]
    scores = {
        name: Score(source, "data_scoring " + call.replace("$influence", influence))
        for name, (source, call) in content["scores"].items()
    }
    same = (
        "blocks",
        "training",
        "warm_training",
        "annotator_passes",
        "tuning",
        "corpus",
        "rounds",
        "accuracy",
        "contrasts",
        "pilot",
        "paper",
        "cross",
    )
    return Plan(
        data=data,
        sizes=Sizes(**content["sizes"][data]),
        scores=scores,
        second_target=content["second_target"][data],
        arms={name: arm(name, given, scores) for name, given in content["arms"].items()},
        **{name: content[name] for name in same},
    )


def arm(name: str, given: Sequence[Call] | Mapping[str, Any], scores: Mapping[str, Score]) -> Arm:
    """An arm from its entry: a list of calls, or a mapping with `calls` and `training`."""
    calls = given["calls"] if isinstance(given, Mapping) else given
    training = given["training"] if isinstance(given, Mapping) else {}
    words = " ".join(calls).split()
    used = [score for score in scores if f"score_field={score}" in words]
    return Arm(name, calls, training, used[-1] if used else "pool")
