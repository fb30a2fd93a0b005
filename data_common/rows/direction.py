"""Whether a higher or a lower score is better: said, declared by a manifest, known of a method here; never guessed."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Literal

from data_common.calls.stage import method_names
from data_common.messages.errors import UserError

Direction = Literal["higher", "lower"]


def known_direction(field: str, direction: str, directions: Mapping[str, str]) -> str | None:
    """Which is better, "higher" or "lower"; None where nothing tells.

    direction: as said by the user, auto = as the manifest of the input declares, else that of the scoring method which
    the field (or its last part) is named after. directions: field -> "higher" or "lower", as declared.
    """
    if direction != "auto":
        return direction
    return directions.get(field) or _of_method(field.rpartition(".")[2])


def higher_is_better(field: str, direction: str, directions: Mapping[str, str], cure: str) -> bool:
    """`known_direction`, where it must be known. cure: what the user sets.

    Raises: UserError where nothing tells.
    """
    found = known_direction(field, direction, directions)
    if found is None:
        raise UserError(f"is a higher or a lower {field} better? No manifest beside the input tells: set {cure}")
    return found == "higher"


def lower_fields(
    fields: Sequence[str], lower: Sequence[str] | None, directions: Mapping[str, str], key: str
) -> list[str]:
    """Of several fields those whose lower values are better.

    lower: as said by the user; of the others, those of which nothing tells are then taken as better when higher. None =
    every direction must be known. key: of the call, that says so.
    Raises: UserError that names all fields of which nothing tells.
    """
    known = {
        field: known_direction(field, "lower" if field in (lower or ()) else "auto", directions) for field in fields
    }
    unknown = ",".join(field for field, direction in known.items() if direction is None)
    if unknown and lower is None:
        raise UserError(
            f"are higher or lower values better in {unknown}? No manifest beside the input tells: name all of them "
            f"whose lower values are better by {key}, as in {key}=[{unknown}]; [] where none is"
        )
    return [field for field, direction in known.items() if direction == "lower"]


def _of_method(name: str) -> str | None:
    folder = name.replace("-", "_")
    if folder not in [method.replace("-", "_") for method in method_names("data_scoring")]:
        return None
    method = importlib.import_module(f"data_scoring.{folder}.method")
    return {True: "higher", False: "lower", None: None}[method.Scorer.higher_is_better]
