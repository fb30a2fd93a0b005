"""Whether a higher or a lower score is better: said, declared by a manifest, or taken as higher with a warning."""

import re
import sys
from collections.abc import Mapping

from common.errors import UserError

LOSS_LIKE = re.compile(r"(^|[^a-z])(ppl|perplexity|nll|loss|bpb)([^a-z]|$)", re.IGNORECASE)


def higher_is_better(field: str, direction: str, directions: Mapping[str, str], cure: str) -> bool:
    """Resolve `direction` (auto, higher or lower): as said, else as the manifest of the input declares.

    directions: field -> "higher" or "lower", as declared. cure: what the user can set where nothing tells.
    Raises: UserError where nothing is declared and the field is named like a loss or perplexity.
    """
    if direction == "auto" and field in directions:
        direction = directions[field]
    elif direction == "auto":
        if LOSS_LIKE.search(field):
            raise UserError(f"is a higher or a lower {field} better? The input has no manifest: set {cure}")
        print(f"warning: no manifest tells the direction of '{field}': taking higher as better", file=sys.stderr)
        direction = "higher"
    return direction == "higher"
