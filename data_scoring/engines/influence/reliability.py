"""How far a data scorer can be trusted: its rank correlation with annotated rows that it was not fitted to."""

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

CONFIDENCE = 0.95
# Below this the order says little: where both are normal, 0.5 + arcsin(0.3) / pi = 60 % of the rows that it puts into
# the better half belong there; a coin would put 50 %.
WEAK = 0.3


def spearman_interval(correlation: float, rows: int) -> tuple[float, float]:
    """95 % interval of Spearman's correlation over `rows` rows.

    Fisher's z = artanh r, with the standard error sqrt((1 + r^2 / 2) / (n - 3)) of Bonett and Wright (2000,
    https://doi.org/10.1007/BF02294183). A perfect correlation, whose z is infinite, counts as that of two neighbours
    who have changed places. Of three rows or fewer, nothing is known.
    """
    if rows <= 3:
        return -1.0, 1.0
    largest = 1 - 12 / (rows * (rows**2 - 1))
    r = min(max(correlation, -largest), largest)
    margin = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt((1 + r**2 / 2) / (rows - 3))
    return math.tanh(math.atanh(r) - margin), math.tanh(math.atanh(r) + margin)


def judged(fitted: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """-> (facts, warnings) about a data scorer.

    fitted: what `fit` gave: spearman and validation_rows (validation_documents of older versions); without them nothing
        can be said.
    """
    rows = fitted.get("validation_rows", fitted.get("validation_documents"))
    if rows is None or "spearman" not in fitted:
        return {}, []
    spearman, (low, high) = fitted["spearman"], spearman_interval(fitted["spearman"], rows)
    facts = {"validation_rows": rows, "spearman_interval": [round(low, 4), round(high, 4)]}
    if low > 0 and spearman >= WEAK:
        return facts, []
    said = "predicts nothing that is clear of chance" if low <= 0 else f"predicts little (below {WEAK})"
    return facts, [
        f"the data scorer {said}: Spearman {spearman:.3f} on {rows:,} validation rows, 95 % interval {low:.2f} to "
        f"{high:.2f}. The annotation of the proxy rows is better used: annotate all rows (a proxy_size as large as the "
        "corpus, or a sample of the corpus as large as proxy_size), or fit to more (a larger proxy_size)"
    ]
