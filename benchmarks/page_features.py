"""page-features beside the filters of the package datatrove, given the same tokens and sentences: CPU seconds.

DELT_DATA=... python -m benchmarks.page_features [--repeats 5]

The filters stop at the first rule that a page breaks; page-features counts everything. Both read pages from memory, in
one process, in turn. The tokens of a page are found once for all filters, as datatrove does.

python -m benchmarks.page_features --own       how many pages datatrove judges alike with its own tokens (spaCy)
"""

import argparse
import functools
import gzip
import json
import os
from pathlib import Path

import numpy as np
from datatrove.data import Document
from datatrove.pipeline import filters

from benchmarks.measure import alternate, print_table
from data_scoring.page_features.features import SENTENCE_END, TOKEN, page_features
from data_scoring.page_features.method import STOP_WORDS
from data_scoring.page_features.rules import SETS

FILTERS = {
    "gopher_quality": filters.GopherQualityFilter(),
    "gopher_repetition": filters.GopherRepetitionFilter(),
    "c4": filters.C4QualityFilter(),
    "fineweb": filters.FineWebQualityFilter(),
}
FILES = (
    "c4_en/c4_en_train_head_1000",
    "openwebtext_1k/openwebtext_1000",
    "web_pages_main_vs_raw/raw_page_text",
    "common_crawl_2019_cc_licensed/cc_main_2019_30_all_languages",
)


def same_tokens() -> None:
    """Put our tokens and sentences into datatrove."""

    @functools.lru_cache(5)
    def words(text: str, language: str) -> list[str]:
        return TOKEN.findall(text)

    modules = (filters.gopher_quality_filter, filters.gopher_repetition_filter, filters.fineweb_quality_filter)
    for module in modules:
        module.split_into_words = words
    filters.c4_filters.split_into_sentences = lambda line, language: [line] * (1 + len(SENTENCE_END.findall(line)))


def filtered(pages: list[str]) -> dict[str, np.ndarray]:
    """Set of rules -> which pages pass its filter, (pages,)."""
    return {
        name: np.array([one.filter(Document(text=page, id="")) is True for page in pages])
        for name, one in FILTERS.items()
    }


def passed(pages: list[str]) -> dict[str, np.ndarray]:
    """The same by page-features."""
    found = page_features(pages, STOP_WORDS)
    return {
        name: ~np.any([rule.broken(found[rule.feature]) for rule in rules.values()], axis=0)
        for name, rules in SETS.items()
    }


def run(repeats: int, own: bool) -> None:
    """Print a row for each file."""
    if not own:
        same_tokens()
    rows = []
    for file in FILES:
        with gzip.open(Path(os.environ["DELT_DATA"], f"{file}.jsonl.gz")) as lines:
            pages = [json.loads(line)["text"] for line in lines]
        if own:
            ours, theirs = passed(pages), filtered(pages)
            row = []
        else:
            ways = {"page-features": lambda: passed(pages), "datatrove": lambda: filtered(pages)}  # noqa: B023
            runs = alternate(ways, repeats)
            ours, theirs = (run.result for run in runs.values())
            seconds = [run.cpu for run in runs.values()]
            row = [*(f"{each:.2f}" for each in seconds), f"{seconds[1] / seconds[0]:.1f}"]
        rows.append([file.split("/")[1], len(pages), *row, *(f"{np.mean(ours[n] == theirs[n]):.3f}" for n in SETS)])
    timing = [] if own else ["page-features", "datatrove", "ratio"]
    print_table("CPU seconds, and the share of pages judged alike", ["pages", "number", *timing, *SETS], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--own", action="store_true", help="datatrove with its own tokens (pip install spacy)")
    asked = parser.parse_args()
    run(asked.repeats, asked.own)
