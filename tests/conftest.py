"""One thread: tiny models spin on more. A column cache of the tests' own."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session", autouse=True)
def column_cache(tmp_path_factory):
    os.environ["DELT_CACHE"] = str(tmp_path_factory.mktemp("column_cache"))
