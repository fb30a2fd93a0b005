"""page-features against the filters of the package datatrove, row by row, with the same tokens and sentences."""

import gzip
import itertools
import json
import os
from pathlib import Path

import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    c4_filters,
    fineweb_quality_filter,
    gopher_quality_filter,
    gopher_repetition_filter,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from data_scoring.page_features.features import SENTENCE_END, TOKEN, page_features, with_plain_lines
from data_scoring.page_features.method import STOP_WORDS
from data_scoring.page_features.rules import SETS

DATA = os.environ.get("DELT_DATA")
FILTERS = {
    "gopher_quality": GopherQualityFilter(),
    "gopher_repetition": GopherRepetitionFilter(),
    "c4": C4QualityFilter(),
    "fineweb": FineWebQualityFilter(),
}
REASONS = {  # of datatrove, where the names of the rules in their order do not give them
    "gopher_quality": "short_doc long_doc below_avg_threshold above_avg_threshold too_many_hashes too_many_ellipsis "
    "too_many_bullets too_many_end_ellipsis below_alpha_threshold enough_stop_words",
    "gopher_repetition": "dup_para_frac dup_para_char_frac dup_line_frac dup_line_char_frac top_2_gram top_3_gram "
    "top_4_gram duplicated_5_n_grams duplicated_6_n_grams duplicated_7_n_grams duplicated_8_n_grams "
    "duplicated_9_n_grams duplicated_10_n_grams",
    "fineweb": "line_punct_ratio short_line_ratio char_dup_ratio list_ratio",
}
# No word is the beginning of another: datatrove takes n-grams for equal whose joined words are.
WORDS = [
    *STOP_WORDS,
    "apple",
    "3",
    "don't",
    "#",
    "...",
    "…",
    "•",
    "-",
    "{",
    "lorem ipsum",
    "javascript",
    "[2]",
    "é.",
    "x" * 30,
]
LINES = st.builds(
    "{}{}{}".format, st.sampled_from(["", "- ", "•", " "]), st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join),
    st.sampled_from(["", ".", "...", "!", '."', " ", "…"]),
)  # fmt: skip
PAGES = st.builds(
    "".join, st.lists(st.tuples(LINES, st.sampled_from(["\n", "\n\n", " ", "\r\n"])).map("".join), max_size=30)
).filter(str.strip)


@pytest.fixture(scope="module", autouse=True)
def same_tokens():
    with pytest.MonkeyPatch.context() as patch:
        for module in (gopher_quality_filter, gopher_repetition_filter, fineweb_quality_filter):
            patch.setattr(module, "split_into_words", lambda text, language: TOKEN.findall(text))
        patch.setattr(
            c4_filters, "split_into_sentences", lambda line, _: [line] * (1 + len(SENTENCE_END.findall(line)))
        )
        yield


def check(pages):
    features = page_features(pages, STOP_WORDS)
    for name, rules in SETS.items():
        broken = {rule: one.broken(features[one.feature]) for rule, one in rules.items()}
        for number, page in enumerate(pages):
            found = FILTERS[name].filter(Document(text=with_plain_lines(page), id=""))
            ours = [rule for rule, rows in broken.items() if rows[number]]
            assert (found is True) == (not ours), (name, ours, found, page)
            if ours and name in REASONS:
                first = REASONS[name].split()[list(rules).index(ours[0])]
                assert found[1].removeprefix("gopher_") == first, (ours, found, page)


@settings(max_examples=60, deadline=None)
@given(st.lists(PAGES, min_size=1, max_size=4))
def test_made_up_pages(pages):
    check([page * repeat for page, repeat in zip(pages, (1, 3, 1, 2), strict=False)])


@pytest.mark.skipif(not DATA, reason="real pages: set DELT_DATA to the folder that holds them")
@pytest.mark.parametrize(
    "file",
    [
        "c4_en/c4_en_train_head_1000",
        "web_pages_main_vs_raw/raw_page_text",
        "common_crawl_2019_cc_licensed/cc_main_2019_30_all_languages",
    ],
)
def test_real_pages(file):
    with gzip.open(Path(DATA, f"{file}.jsonl.gz")) as lines:
        check([json.loads(line)["text"] for line in itertools.islice(lines, 200)])
