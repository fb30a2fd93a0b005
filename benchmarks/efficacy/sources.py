"""Where the study's text comes from: kinds of documents, of real text (DELT_DATA) or of the embedded data set.

A kind is clean, of low quality, or planted: junk that is made on purpose, so that the truth about it is known.
"""

import gzip
import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

Documents = Callable[[], Iterator[str]]


class Kind(NamedTuple):
    """One kind of text of the corpus."""

    name: str
    quality: str  # clean | low | planted
    share: float  # of the chunks of the corpus
    documents: Documents
    heldout: int = 0  # chunks of documents of their own, to evaluate on


class Sources(NamedTuple):
    """All that a study reads. The first of the targets is the one that the main arms use."""

    kinds: Sequence[Kind]
    targets: dict[str, Documents | str]  # name -> documents, or the kind whose documents it shares
    reference: Documents  # text that is known to be good, for the n-gram model


def rows(path: Path) -> Iterator[dict]:
    """Rows of a JSONL file, gzipped or not."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def texts(*paths: Path, keep: Callable[[dict], bool] = lambda row: True) -> Documents:
    """The field `text` of the rows of files that `keep` accepts."""
    return lambda: (row["text"] for path in paths for row in rows(path) if keep(row))


def real(folder: Path) -> Sources:
    """English web text, books, encyclopaedia and others, with natural and with planted junk."""
    names = ("c4_en_train_head_1000", "c4_olmo_fixture_1000", "c4_llamafactory_demo")
    c4 = texts(*(folder / "c4_en" / f"{name}.jsonl.gz" for name in names))
    fragments = texts(folder / "c4_en" / "c4_pf_fragments.jsonl.gz")  # no documents of c4
    pile = folder / "pile_21_domains" / "pile_val_10_per_domain.jsonl.gz"
    crawl = folder / "common_crawl_2019_cc_licensed" / "cc_main_2019_30_all_languages.jsonl.gz"
    encyclopaedia = texts(pile, keep=lambda row: row["domain"] == "wikipedia")
    articles = texts(folder / "wikipedia_demo" / "wiki_demo.jsonl.gz")
    kinds = [
        Kind("c4", "clean", 0.17, c4, 64),
        Kind("openwebtext", "clean", 0.14, texts(folder / "openwebtext_1k" / "openwebtext_1000.jsonl.gz"), 64),
        Kind("wikipedia", "clean", 0.09, lambda: chain(articles(), encyclopaedia()), 64),
        Kind("books", "clean", 0.12, texts(folder / "standard_ebooks" / "books_by_chapter.jsonl.gz"), 64),
        Kind("pile", "clean", 0.10, texts(pile, keep=lambda row: row["domain"] in PILE), 64),
        Kind("raw-pages", "low", 0.09, texts(folder / "web_pages_main_vs_raw" / "raw_page_text.jsonl.gz")),
        Kind("junk-news", "low", 0.07, texts(folder / "fakenews_sample" / "news_sample_250.jsonl.gz")),
        Kind("chatter", "low", 0.05, texts(folder / "nltk_webtext" / "webtext_chunks.jsonl.gz")),
        Kind("crawl", "low", 0.04, texts(crawl, keep=lambda row: float(row["english"]) >= 0.2)),
        Kind("shuffled-words", "planted", 0.0434, shuffled_words(fragments)),
        Kind("boilerplate", "planted", 0.0433, boilerplate),
        Kind("other-languages", "planted", 0.0433, texts(crawl, keep=lambda row: float(row["english"]) < 0.05)),
    ]
    lima = texts(folder / "target_lima" / "lima_train.jsonl.gz")
    reference = texts(folder / "wikitext2" / "wikitext2_valid_test_articles.jsonl.gz")
    return Sources(kinds, {"lima": lima, "wikipedia": "wikipedia"}, lambda: map(untokenized, reference()))


PILE = {
    *("pubmed-abstracts", "pubmed-central", "freelaw", "stackexchange", "nih-exporter", "philpapers", "uspto"),
    *("hackernews", "enron", "opensubtitles", "youtubesubtitles", "openwebtext2", "gutenberg"),
}


def embedded(folder: Path) -> Sources:
    """Docstrings, source code and the manual of Python, which every Python brings along."""

    def kind(name: str) -> Documents:
        return texts(folder / "corpus.jsonl", keep=lambda row: row["kind"] == name)

    kinds = [
        Kind("docstring", "clean", 0.62, kind("docstring"), 64),
        Kind("source", "low", 0.25, kind("source"), 64),
        Kind("shuffled-words", "planted", 0.065, shuffled_words(kind("licence"))),
        Kind("boilerplate", "planted", 0.065, kind("boilerplate")),
    ]
    manual = texts(folder / "target.jsonl", folder / "heldout.jsonl")
    return Sources(kinds, {"manual": manual, "docstring": "docstring"}, texts(folder / "target.jsonl"))


def untokenized(text: str) -> str:
    """An article of WikiText with its words put together again, and without the marks of unknown words."""
    text = text.replace("<unk>", "").replace(" 's", "'s")
    return re.sub(r" (?=[,.;:!?)])|(?<=\() | @(?=[-,.]@)|(?<=[-,.])@ ", "", text)


def shuffled_words(documents: Documents) -> Documents:
    """Documents with their words in random order: the right words and no language."""

    def shuffled() -> Iterator[str]:
        random = np.random.default_rng(0)
        for text in documents():
            yield " ".join(random.permutation(text.split()))

    return shuffled


def boilerplate() -> Iterator[str]:
    """What surrounds the text of web pages, over and over."""
    random = np.random.default_rng(0)
    for _ in range(2000):
        few = [PHRASES[place] for place in random.choice(len(PHRASES), 4, replace=False)]
        yield " ".join(few[place] for place in random.integers(len(few), size=80))


PHRASES = (
    "We use cookies to give you the best experience on our website. Accept all cookies.",
    "Read our privacy policy and terms of service.",
    "All rights reserved. No part of this site may be copied without permission.",
    "Sign up for our newsletter and never miss an update.",
    "Click here to subscribe. You can unsubscribe at any time.",
    "Log in or create an account to continue reading.",
    "Home | About us | Products | News | Contact",
    "Share this article on Facebook, Twitter or by e-mail.",
    "Your browser does not support this video. Please enable JavaScript.",
    "Previous page. Next page. Back to top.",
    "Add to cart. Free shipping on orders over $50.",
    "Leave a reply. Your email address will not be published.",
    "Related posts you may like. Show more results.",
    "This page was last updated today. Report a problem with this page.",
    "Advertisement. Continue reading below.",
    "Download our app in the store. Follow us for more.",
)
