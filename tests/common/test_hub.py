"""Downloads, with the hub's libraries replaced at their boundary."""

import datetime
import decimal
import gzip
import importlib
import io
import json
from types import SimpleNamespace

import datasets
import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from common import hub
from common.errors import UserError

# the HTTP library that this version of the client is built on
httpx = importlib.import_module(HfHubHTTPError.__bases__[0].__module__.split(".")[0])


class FakeHub:
    """Answers for the hub: rows of a data set, files of a model, or an error at one of its calls."""

    def __init__(self):
        self.rows = [{"text": f"row {number}"} for number in range(5)]
        self.files = {"config.json": "{}", "model.safetensors": "weights", "tokenizer.model": "pieces"}
        self.errors = {}
        self.calls = {}

    def answer(self, call, *arguments, **options):
        self.calls[call] = (arguments, options)
        if call in self.errors:
            raise self.errors[call]

    def information(self, call):
        def answer(api, *arguments, **options):
            self.answer(call, *arguments, **options)
            return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in self.files])

        return answer

    def load_dataset(self, *arguments, **options):
        self.answer("load_dataset", *arguments, **options)
        return self.stream()

    def stream(self):
        yield from self.rows
        self.answer("stream")

    def snapshot_download(self, hub_id, local_dir, **options):
        self.calls["snapshot_download"] = ((hub_id,), options)
        (local_dir / ".cache").mkdir(parents=True)
        for name, content in self.files.items():
            (local_dir / name).write_text(content)
            self.answer("after one file")


@pytest.fixture
def fake(monkeypatch) -> FakeHub:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    fake = FakeHub()
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", fake.information("dataset_info"))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fake.information("model_info"))
    monkeypatch.setattr(datasets, "load_dataset", fake.load_dataset)
    monkeypatch.setattr(hub, "snapshot_download", fake.snapshot_download)
    return fake


def http_error(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    request = httpx.Request("GET", "https://huggingface.co/api")
    return kind(f"{status} for some url", response=httpx.Response(status, request=request))


def test_rows_become_lines(fake, tmp_path):
    fake.rows = [{"text": "é\n\u2028", "n": 2**62, "tags": ["a", None]}, {"text": "", "n": 1.5, "tags": []}]
    assert hub.download_dataset("some/data", str(tmp_path / "out.jsonl")) == {"rows": 2}
    content = (tmp_path / "out.jsonl").read_bytes()
    assert content.endswith(b"\n")
    assert [json.loads(line) for line in content.split(b"\n")[:-1]] == fake.rows


def test_the_call_that_loads(fake, tmp_path):
    hub.download_dataset("some/data", str(tmp_path / "a.jsonl"))
    assert fake.calls["load_dataset"] == (("some/data", None), {"split": "train", "streaming": True, "token": False})
    hub.download_dataset("some/data", str(tmp_path / "b.jsonl"), "german", "test")
    assert fake.calls["load_dataset"] == (("some/data", "german"), {"split": "test", "streaming": True, "token": False})


@pytest.mark.parametrize(("sample_size", "rows"), [(None, 5), (2, 2), (5, 5), (9, 5)])
def test_sample_size_is_an_upper_bound(fake, tmp_path, sample_size, rows):
    path = tmp_path / "out.jsonl"
    assert hub.download_dataset("some/data", str(path), sample_size=sample_size) == {"rows": rows}
    assert [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] == fake.rows[:rows]


def test_no_row_beyond_the_sample_is_asked_for(fake, tmp_path):
    fake.errors["stream"] = AssertionError("read on after the last row")
    assert hub.download_dataset("some/data", str(tmp_path / "out.jsonl"), sample_size=5) == {"rows": 5}


def test_the_suffix_compresses(fake, tmp_path):
    hub.download_dataset("some/data", str(tmp_path / "out.jsonl.gz"), sample_size=1)
    assert gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()) == b'{"text":"row 0"}\n'


def test_values_that_json_lacks(fake, tmp_path):
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5)
    fake.rows = [{"at": moment, "day": moment.date(), "price": decimal.Decimal("1.10"), "x": float("nan"), "b": b"\0"}]
    hub.download_dataset("some/data", str(tmp_path / "out.jsonl"))
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert row == {"at": "2026-01-02T03:04:05", "day": "2026-01-02", "price": "1.10", "x": None, "b": "AA=="}


def test_values_that_json_cannot_hold_are_an_error(fake, tmp_path):
    fake.rows = [{"image": io.BytesIO()}]
    with pytest.raises(UserError, match=r"some/data holds what JSON cannot: .*BytesIO"):
        hub.download_dataset("some/data", str(tmp_path / "out.jsonl"))


@pytest.mark.parametrize(("path", "sample_size"), [("folder", None), ("out.json", None), ("out.jsonl", 0)])
def test_senseless_requests_are_errors_before_any_call(fake, tmp_path, path, sample_size):
    with pytest.raises(UserError):
        hub.download_dataset("some/data", str(tmp_path / path), sample_size=sample_size)
    assert fake.calls == {}


def test_a_broken_stream_leaves_the_old_file(fake, tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("old\n")
    fake.errors["stream"] = ConnectionError("connection reset")
    with pytest.raises(UserError, match=r"no connection to the hub for data set some/data: .*connection reset"):
        hub.download_dataset("some/data", str(path))
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ("dataset_info", http_error(RepositoryNotFoundError, 404), "is not on the hub: check the id.*HF_TOKEN"),
        ("dataset_info", http_error(GatedRepoError, 403), "is gated: accept its terms.*HF_TOKEN"),
        ("dataset_info", http_error(HfHubHTTPError, 500), "refused.*500"),
        ("dataset_info", OfflineModeIsEnabled("offline"), "unset HF_HUB_OFFLINE"),
        ("dataset_info", httpx.ConnectTimeout("timed out"), "no connection to the hub.*check network"),
        ("load_dataset", ValueError("BuilderConfig 'x' not found. Available: ['en']"), r"\['en'\].*--data-name"),
        ("load_dataset", ValueError("Config name is missing.\nPlease pick one: ['en']"), r"\['en'\].*--data-name"),
        ("load_dataset", ValueError("Bad split: x. Available splits: ['test']"), r"\['test'\].*--split-name"),
        ("load_dataset", RuntimeError("Dataset scripts are no longer supported, but found x.py"), "Parquet or JSON"),
        ("load_dataset", datasets.exceptions.DatasetNotFoundError("'x' is a gated dataset"), "accept its terms"),
        ("load_dataset", KeyError(), "cannot download data set some/data: KeyError"),
    ],
)
def test_errors_say_in_one_line_what_to_do(fake, tmp_path, call, error, message):
    fake.errors[call] = error
    with pytest.raises(UserError, match=message) as raised:
        hub.download_dataset("some/data", str(tmp_path / "out.jsonl"))
    assert "some/data" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_the_token_comes_from_the_environment_and_is_not_told(fake, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fake.errors["load_dataset"] = ValueError("something else")
    with pytest.raises(UserError) as raised:
        hub.download_dataset("some/data", str(tmp_path / "out.jsonl"))
    assert fake.calls["dataset_info"][1]["token"] == fake.calls["load_dataset"][1]["token"] == "hf_secret"
    assert "hf_secret" not in "".join([str(raised.value), *capfd.readouterr()])


def test_a_model_becomes_a_folder(fake, tmp_path):
    assert hub.download_model("some/model", tmp_path / "model") == {"files": 3}
    assert {path.name: path.read_text() for path in (tmp_path / "model").iterdir()} == fake.files
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


def test_only_safe_files_of_the_top_folder_are_asked_for(fake, tmp_path):
    hub.download_model("some/model", tmp_path / "model")
    options = fake.calls["snapshot_download"][1]
    names = ["model-00001-of-00002.safetensors", "config.json", "tokenizer.model", "merges.txt", "pytorch_model.bin"]
    names += ["model.pkl", "training_args.bin", "onnx/config.json", "consolidated.safetensors", "modeling.py"]
    wanted = huggingface_hub.utils.filter_repo_objects(
        names, allow_patterns=options["allow_patterns"], ignore_patterns=options["ignore_patterns"]
    )
    assert list(wanted) == names[:4]


def test_a_failed_model_download_shows_no_folder_and_can_go_on(fake, tmp_path):
    fake.errors["after one file"] = TimeoutError("no answer")
    with pytest.raises(UserError, match="no connection to the hub for model some/model"):
        hub.download_model("some/model", tmp_path / "model")
    [kept] = tmp_path.iterdir()
    assert kept.name.startswith(".model.")
    assert (kept / "config.json").exists()


@pytest.mark.parametrize("names", [["config.json", "pytorch_model.bin"], ["config.json", "onnx/model.safetensors"]])
def test_a_model_without_safetensors_is_an_error(fake, tmp_path, names):
    fake.files = dict.fromkeys(names, "")
    with pytest.raises(UserError, match="some/model has no safetensors weights"):
        hub.download_model("some/model", tmp_path / "model")
    assert "snapshot_download" not in fake.calls
