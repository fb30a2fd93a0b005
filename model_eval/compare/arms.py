"""Which results are of one model, and which models are seeds of one arm: by what made them, not by their names."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_common.messages.errors import UserError
from model_eval.compare.outcomes import METHOD, RATIO, Outcome
from model_eval.compare.settings import check_comparable
from model_eval.provenance import CONTENT, is_content

SEED = re.compile(r"[-_.]seed[-_]?\d+$")  # at the end of a model's name: not part of the arm
SAME_RATIO = 0.005  # seeds may select from draws of slightly different size
SHOWN = 3  # differences in the name of an arm

Contents = Mapping[str, Mapping[str, Any]]  # path -> content of RESULT.yaml


@dataclass
class _Arm:
    name: str
    given: bool  # by the call that evaluated
    paths: list[str] = field(default_factory=list)


def arm_name(content: Mapping[str, Any]) -> str:
    """The arm of a result: as it says, else the last part of the model's path without a seed at its end."""
    return str(content.get("arm") or SEED.sub("", Path(content["model"]).name))


def name_arms(contents: Contents) -> tuple[dict[str, str], dict[str, str]]:
    """Path of a result -> its model, of several spellings the first; and -> its arm.

    Raises: UserError where the call of an evaluation named an arm that holds another experiment.
    """
    contents, models = _with_known_contents(contents), {}
    model_of = {path: models.setdefault(_run(content), str(content["model"])) for path, content in contents.items()}
    arms: list[_Arm] = []
    for path in sorted(contents, key=lambda path: not contents[path].get("made_by")):  # what is known first
        arm = next((arm for arm in arms if _belongs(contents, path, arm)), None)
        if arm is None:
            arm = _Arm(arm_name(contents[path]), bool(contents[path].get("arm")))
            arms.append(arm)
        arm.paths.append(path)
    for arm in arms:
        for path in arm.paths[1:]:
            _check_same_arm(arm, contents, path)
    _tell_apart(contents, arms)
    return model_of, {path: arm.name for arm in arms for path in arm.paths}


def same_run(one: Outcome, other: Outcome) -> bool:
    """Whether two outcomes of an arm and task are of one model; then they are equal.

    Raises: UserError where they are not.
    """
    if one.model != other.model:
        return False
    check_comparable(one, other)
    if one.result["value"] != other.result["value"]:
        raise UserError(f"{one.path} and {other.path} are both of {one.task} and the model {one.model}, but differ")
    return True


def changes(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys in which the making of two models differs; a key that only one knows came with a later version."""
    different = [key for key in one if key in other and one[key] != other[key]]
    alone = [key for key in one.keys() ^ other.keys() if key.endswith("method") or is_content((one | other)[key])]
    return different + sorted(alone)


def _with_known_contents(contents: Contents) -> Contents:
    """A result that does not tell the content of its model gets that of another result of the same place."""
    known = {_place(content): content["model_content"] for content in contents.values() if "model_content" in content}
    return {
        path: ({"model_content": known[_place(content)]} if _place(content) in known else {}) | content
        for path, content in contents.items()
    }


def _place(content: Mapping[str, Any]) -> str:
    return os.path.realpath(str(content["model"]))


def _run(content: Mapping[str, Any]) -> tuple:
    """What two results of one model have in common: its content, or where that is not known its place."""
    return content.get("arm"), content.get("model_content") or _place(content)


def _belongs(contents: Contents, path: str, arm: _Arm) -> bool:
    mine, others = contents[path], contents[arm.paths[0]]
    if mine.get("arm") or arm.given:
        return bool(mine.get("arm")) and arm.given and mine["arm"] == arm.name
    if _run(mine) == _run(others):
        return True
    made = [mine.get("made_by"), others.get("made_by")]
    if all(made):
        return not changes(*made)
    return arm_name(mine) == arm.name


def _check_same_arm(arm: _Arm, contents: Contents, path: str) -> None:
    """Raises UserError where two models of an arm were not made in one way, so that they are no seeds of it."""
    one, other = contents[arm.paths[0]], contents[path]
    pairs = {stage: (one.get(stage), other.get(stage)) for stage in METHOD}
    different = [f"{stage} {mine} against {others}" for stage, (mine, others) in pairs.items() if mine != others]
    ratios = [content.get(RATIO) for content in (one, other)]
    if None not in ratios and abs(ratios[0] - ratios[1]) > SAME_RATIO:
        different.append(f"{RATIO} {ratios[0]:g} against {ratios[1]:g}")
    made = [content.get("made_by") or {} for content in (one, other)]
    pairs = {key: (made[0].get(key), made[1].get(key)) for key in changes(*made)} if all(made) else {}
    contents_aside = {key: pair for key, pair in pairs.items() if not any(map(is_content, pair))}  # draws of data
    different += [f"{key} {mine} against {others}" for key, (mine, others) in contents_aside.items()]
    if different:
        raise UserError(
            f"{arm.paths[0]} and {path} are both of the arm '{arm.name}', but not of one experiment: "
            f"{'; '.join(different)} (evaluate with arm=NAME, or name the models differently)"
        )


def _tell_apart(contents: Contents, arms: Sequence[_Arm]) -> None:
    """Arms of one name get what tells them apart behind it."""
    for name in [arm.name for arm in arms]:
        alike = [arm for arm in arms if arm.name == name]
        made = [contents[arm.paths[0]].get("made_by") or {} for arm in alike]
        keys = list(dict.fromkeys(key for one in made for other in made for key in changes(one, other)))[:SHOWN]
        told = [", ".join(f"{key}={_short(how[key])}" for key in keys if key in how) for how in made]
        for number, (arm, words) in enumerate(zip(alike, told, strict=True), 1):
            if len(alike) > 1:
                arm.name = f"{name} ({words if words and told.count(words) == 1 else f'{words} no. {number}'.strip()})"


def _short(value: Any) -> str:
    return str(value).removeprefix(CONTENT)[:12]
