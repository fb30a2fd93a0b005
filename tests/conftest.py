"""One thread: tiny models spin on more. A column cache of the tests' own."""

import os
import threading

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session", autouse=True)
def column_cache(tmp_path_factory):
    os.environ["DELT_CACHE"] = str(tmp_path_factory.mktemp("column_cache"))


def pytest_sessionfinish(session):
    """A thread of a library that outlives the tests must not hold up their process for ever."""
    if hasattr(session.config, "workerinput"):
        end = threading.Timer(20, os._exit, [0])  # the results have long been sent
        end.daemon = True
        end.start()
