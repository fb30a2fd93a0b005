"""What scores know about the planted junk and the kinds of text, and which factor of lqs knows it.

python -m benchmarks.efficacy.junk_detection [real|embedded] [--folder FOLDER] [--add]

It writes results/DATA/scores.json.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.efficacy import sources
from benchmarks.efficacy.plan import FOLDER, load

TOP, BOTTOM = (0.01, 0.05, 0.10), 0.10  # shares of the corpus whose junk is counted
BINS = 40


def auc(good: np.ndarray, bad: np.ndarray) -> float:
    """Probability that a good row ranks above a bad one, ties half: Mann-Whitney's U over the number of pairs."""
    return float(stats.mannwhitneyu(good, bad).statistic / (len(good) * len(bad)))


def judge(score: np.ndarray, kinds: np.ndarray, qualities: np.ndarray) -> dict:
    """How a score, higher is better, sees each kind of text. score, kinds, qualities: (rows,)."""
    clean, planted = score[qualities == "clean"], qualities == "planted"
    best = np.argsort(-score, kind="stable")
    percentile = (stats.rankdata(score) - 0.5) / len(score)
    ends = {f"top {share:.0%}": best[: max(1, int(share * len(best)))] for share in TOP}
    ends[f"bottom {BOTTOM:.0%}"] = best[len(best) - max(1, int(BOTTOM * len(best))) :]
    edges = np.quantile(score, [0.005, 0.995])
    return {
        "auc": {kind: auc(clean, score[kinds == kind]) for kind in np.unique(kinds[qualities != "clean"])},
        "auc_planted": auc(clean, score[planted]),
        "auc_low": auc(clean, score[qualities == "low"]),
        "planted": {name: float(planted[rows].mean()) for name, rows in ends.items()},
        "mean_percentile": {kind: float(percentile[kinds == kind].mean()) for kind in np.unique(kinds)},
        "histogram": {
            "edges": [float(edge) for edge in edges],
            "counts": {
                str(kind): np.histogram(np.clip(score[kinds == kind], *edges), BINS, edges)[0].tolist()
                for kind in np.unique(kinds)
            },
        },
    }


def ablations(sweep: Path) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """lqs with one factor left out, from what the visited steps gave, and how much learnability varies.

    sweep: folder of step-*.npz with dots, norms (samples,) and co_state_norm. Reliability is ||lambda||, quality the
    cosine, learnability the ratio of a sample's gradient norms at the step and `lag` later.
    """
    steps = [np.load(path) for path in sorted(sweep.glob("step-*.npz"))]
    factors = [
        (norm, step["dots"] / (step["norms"] * norm), step["norms"] / later["norms"])
        for step, later in pairwise(steps)
        for norm in [float(step["co_state_norm"])]
    ]
    scores = {
        "lqs": sum(reliability * quality * learnability for reliability, quality, learnability in factors),
        "without learnability": sum(reliability * quality for reliability, quality, _ in factors),
        "without reliability": sum(quality * learnability for _, quality, learnability in factors),
        "without quality": sum(reliability * learnability for reliability, _, learnability in factors),
        "pds": sum(step["dots"] for step in steps[:-1]),
    }
    spread = float(np.mean([ratio.std() / ratio.mean() for *_, ratio in factors]))
    return scores, {"learnability sd / mean": spread, "reliability last / first": factors[-1][0] / factors[0][0]}


def read_scores(data: str, folder: Path) -> tuple[dict[str, np.ndarray], dict[str, dict]]:
    """Of each file of scores that is there: the scores, a perplexity as its -log, and what the scoring cost."""
    scores, costs = {}, {}
    for name in load(data).scores:
        manifest = folder / f"{name}.jsonl.manifest.json"
        if manifest.exists():
            facts = json.loads(manifest.read_text(encoding="utf-8"))
            raw = np.array([row[name] for row in sources.rows(folder / f"{name}.jsonl")], float)
            scores[name] = raw if facts["directions"][name] == "higher" else -np.log(raw)
            cost = folder / f"{name}.jsonl.cost.json"
            if cost.exists():
                costs[name] = json.loads(cost.read_text(encoding="utf-8"))
    return scores, costs


def rank_correlations(scores: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Spearman's of each pair of scores."""
    return {
        one: {other: float(stats.spearmanr(scores[one], scores[other]).statistic) for other in scores} for one in scores
    }


def added(recorded: dict, found: dict) -> dict:
    """The record with what is found of scores that it does not have; what it has stays.

    Raises: SystemExit where it is of another number of rows.
    """
    if recorded["rows"] != found["rows"]:
        sys.exit(f"error: the record is of {recorded['rows']:,} rows, not of {found['rows']:,}")
    new = [name for name in found["scores"] if name not in recorded["scores"]]
    result = dict(recorded)
    for part in ("costs", "scores", "spearman"):
        result[part] = recorded[part] | {name: found[part][name] for name in new if name in found[part]}
    for name, others in recorded["spearman"].items():
        result["spearman"][name] = others | {
            one: found["spearman"][one][name] for one in new if name in found["scores"]
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", nargs="?", choices=["real", "embedded"], default="embedded")
    parser.add_argument("--folder", type=Path, help="of the study (results/efficacy-DATA)")
    parser.add_argument("--add", action="store_true", help="keep what is recorded, add the scores that are not")
    given = parser.parse_args()
    folder = (given.folder or Path("results") / f"efficacy-{given.data}") / "data"
    rows = list(sources.rows(folder / "pool.jsonl"))
    kinds, qualities = (np.array([row[name] for row in rows]) for name in ("kind", "quality"))
    scores, costs = read_scores(given.data, folder / "scored")
    if not scores:
        sys.exit(f"error: no scores in {folder / 'scored'}: they are made with the cells, or by run --prepare")
    result = {
        "rows": len(rows),
        "costs": costs,
        "scores": {name: judge(score, kinds, qualities) for name, score in scores.items()},
        "spearman": rank_correlations(scores),
    }
    if "lqs" in scores:
        parts, result["factors"] = ablations(folder / "scored" / "lqs.jsonl.work" / "annotate" / "sweep")
        result["ablations"] = {
            name: judge(parts[name], kinds, qualities) for name in parts if name.startswith("without")
        }
        result["ablation_spearman"] = rank_correlations(parts)["lqs"]
    output = FOLDER / "results" / given.data / "scores.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    if given.add and output.exists():
        result = added(json.loads(output.read_text(encoding="utf-8")), result)
    output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
