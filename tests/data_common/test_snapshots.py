"""What the hub's libraries raise becomes one line that says what to do. (tests/test_downloads.py has the downloads.)"""

import importlib

import datasets
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from data_common.hub import snapshots
from data_common.hub.datasets_source import Wanted, download_dataset
from data_common.messages.errors import UserError

# the HTTP library that this version of the client is built on
httpx = importlib.import_module(HfHubHTTPError.__bases__[0].__module__.split(".")[0])


def http_error(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    request = httpx.Request("GET", "https://huggingface.co/api")
    return kind(f"{status} for some url", response=httpx.Response(status, request=request))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (http_error(RepositoryNotFoundError, 404), "is not on the hub: check the id.*HF_TOKEN"),
        (http_error(GatedRepoError, 403), "is gated: accept its terms.*HF_TOKEN"),
        (http_error(RevisionNotFoundError, 404), "no such revision"),
        (http_error(HfHubHTTPError, 500), "refused.*500"),
        (http_error(HfHubHTTPError, 401), "refused the token.*HF_TOKEN"),
        (OfflineModeIsEnabled("offline"), "unset HF_HUB_OFFLINE"),
        (httpx.ConnectTimeout("timed out"), "no connection to the hub.*check network"),
        (ConnectionError("connection\nreset"), "no connection to the hub.*connection reset"),
        (ValueError("BuilderConfig 'x' not found. Available: ['en']"), r"\['en'\].*--data-name"),
        (ValueError("Config name is missing.\nPlease pick one: ['en']"), r"\['en'\].*--data-name"),
        (ValueError("Bad split: x. Available splits: ['test']"), r"\['test'\].*--split-name"),
        (datasets.exceptions.DatasetNotFoundError("'x' is a gated dataset"), "accept its terms"),
        (KeyError(), "cannot download data set some/data: KeyError"),
    ],
)
def test_errors_say_in_one_line_what_to_do(error, message):
    with pytest.raises(UserError, match=message) as raised, snapshots.hub_errors("data set some/data"):
        raise error
    assert "some/data" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("path", "sample_size"), [("folder", None), ("out.json", None), ("out.jsonl", 0)])
def test_senseless_requests_are_errors_before_any_call(tmp_path, path, sample_size):
    with pytest.raises(UserError, match=r"must end with|at least 1 row"):
        download_dataset(Wanted("some/data", sample_size=sample_size), str(tmp_path / path))
