"""What a model did on every single item, kept beside the result, so that two models can be compared item by item."""

from pathlib import Path

import numpy as np
import xxhash

from data_common.files.atomic import save_array

NAME = "items.npy"
KIND = np.dtype([("item", "u8"), ("numerator", "f8"), ("denominator", "f8")])


def items_of(identities: list[str], numerator: np.ndarray, denominator: np.ndarray | float = 1.0) -> np.ndarray:
    """(n,) of KIND; a result is the sum of all numerators over that of all denominators.

    identities: what tells an item from others (its prompt and answer, its text): only a hash is kept.
    """
    found = np.empty(len(identities), KIND)
    found["item"] = [xxhash.xxh3_64_intdigest(identity.encode("utf-8", "surrogatepass")) for identity in identities]
    found["numerator"], found["denominator"] = numerator, denominator
    return found


def digest(items: np.ndarray) -> str:
    """Equal where the items are the same, in the same order."""
    return xxhash.xxh3_128_hexdigest(np.ascontiguousarray(items["item"]).tobytes())


def value_of(items: np.ndarray) -> float:
    """The result that the items add up to."""
    return float(items["numerator"].sum() / items["denominator"].sum())


def save_items(folder: Path, items: np.ndarray) -> None:
    """Keep them in the folder of a task."""
    save_array(folder / NAME, items)


def load_items(folder: Path) -> np.ndarray | None:
    """What was kept, (n,) of KIND; None where nothing (or something else) is there."""
    try:
        found = np.load(folder / NAME)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.dtype == KIND else None
