"""utils.py with the real client of the hub against a hub on the loopback address."""

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

import utils
from tests.fake_hub import TOKEN, FakeHub, Repository, serving

MOMENT = 1_704_164_645_123_456_789
REPOSITORY = Path(utils.__file__).parent
# Runs the command lines of standard input one after the other; the library imports cost seconds.
DRIVER = """
import contextlib, io, json, os, sys
import datasets.config, utils
datasets.config.STREAMING_READ_RETRY_INTERVAL = 0.01
for words, token in json.load(sys.stdin):
    os.environ.pop("HF_TOKEN", None)
    os.environ.update({"HF_TOKEN": token} if token else {})
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = utils.main(words)
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


@pytest.fixture(scope="module")
def hub():
    with serving() as hub:
        sets = {
            "some/set": Repository({"data/train.jsonl": lines(5000), "data/test.jsonl": lines(3)}),
            "some/large": Repository({"train.jsonl": lines(80, "x" * 2**20)}),
            "files/set": Repository(other_files()),
            "told/set": Repository({"x.csv": b"a|b\n1|2\n", "README.md": told(default="sep: '|'")}),
            "pandas/set": Repository({"x.csv": b"1,2\n", "README.md": told(default="names: [a, b]")}),
            "broken/json": Repository({"train.json.gz": gzip.compress(lines(5000, "é"), 0)}),
            "broken/csv": Repository({"train.csv": b"n\n" + b"".join(b"%d\n" % n for n in range(5000))}),
            "broken/parquet": Repository({"train.parquet": numbers()}),
            "gated/set": Repository({"train.jsonl": lines(2)}, gated=True),
            "script/set": Repository({"set.py": b""}, branches={"refs/convert/parquet": parquet_files()}),
            "script/only": Repository({"only.py": b""}),
            "togethercomputer/RedPajama-Data-1T-Sample": Repository(
                {f"cc_{year}_sample.jsonl": b'{"text": "%d", "n": 1.50}\n' % year for year in range(2019, 2024)}
                | {"RedPajama-Data-1T-Sample.py": b"", "c4_sample.jsonl": b'{"text": "no"}\n'}
            ),
        }
        models = {
            "some/model": Repository({"config.json": b"{}", "model.safetensors": b"w" * 10**5, "sub/x.txt": b"1"}),
            "old/model": Repository({"config.json": b"{}", "pytorch_model.bin": b"pickle"}),
        }
        hub.repositories = {("datasets", key): value for key, value in sets.items()}
        hub.repositories |= {("models", key): value for key, value in models.items()}
        yield hub


def lines(count: int, text: str = "some text") -> bytes:
    return b"".join(json.dumps({"text": f"{number} {text}", "n": number}).encode() + b"\n" for number in range(count))


def other_files() -> dict[str, bytes]:
    """Splits in several formats, with values that types of columns would change."""
    table = pyarrow.table({"t": pyarrow.array([None, MOMENT], pyarrow.timestamp("ns"))})
    parquet = io.BytesIO()
    pyarrow.parquet.write_table(table, parquet)
    return {
        "list/train.json": b'[{"text": "2024-01-02", "n": 18446744073709551623}, {"text": ["a"], "m": {"x": 1.50}}]',
        "table/train.csv": b"n,text\n007,\xc3\xa9\n1,NA\n",
        "table/test.csv": b"n,text\n1,a,b\n",
        "packed/train.json.gz": gzip.compress(lines(3)),
        "times/train.parquet": parquet.getvalue(),
        "README.md": told(
            list="data_files: list/*.json",
            table="data_files: [{split: train, path: table/train.csv}, {split: test, path: table/test.csv}]",
            packed="data_files: packed/*",
            times="data_files: times/*",
        ),
    }


def numbers() -> bytes:
    """5,000 rows of Parquet in several groups, not compressed."""
    file = io.BytesIO()
    table = pyarrow.table({"n": list(range(5000)), "text": [f"{number} some text" for number in range(5000)]})
    pyarrow.parquet.write_table(table, file, row_group_size=1500, compression="none")
    return file.getvalue()


def told(**configurations: str) -> bytes:
    """What a set says of itself: a line for each configuration."""
    parts = [f"- config_name: {name}\n  {line}\n" for name, line in configurations.items()]
    return f"---\nconfigs:\n{''.join(parts)}---\n".encode()


def parquet_files() -> dict[str, bytes]:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": ["p", "q"]}), file)
    names = ["en/train/0000.parquet", "de/train/0000.parquet", "de/partial-test/0000.parquet"]
    return dict.fromkeys(names, file.getvalue())


def environment(hub: FakeHub, folder: Path, **more: str) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return clean | {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "home"), "PYTHONPATH": str(REPOSITORY)} | more


def call(hub: FakeHub, folder: Path, *commands: str, token: str | None = None, **more: str) -> list[tuple]:
    """Exit code, output and errors of each command line; the words in one string, `CONTENT ID PLACE [OPTION ...]`."""
    words = []
    for command in commands:
        content, name, place, *options = command.split()
        words.append((["--content", content, "--id", name, "--save-dir", str(folder / place), *options], token))
    options = {"cwd": folder, "env": environment(hub, folder, **more), "text": True, "capture_output": True}
    result = subprocess.run([sys.executable, "-c", DRIVER], input=json.dumps(words), **options)
    assert result.returncode == 0, result.stderr
    return [tuple(json.loads(line)) for line in result.stdout.split("\n")[:-1]]


def read(path: Path) -> list[dict]:
    content = path.read_bytes()
    if path.suffix == ".zst":
        content = zstandard.ZstdDecompressor().stream_reader(content).read()
    return [json.loads(line) for line in content.split(b"\n")[:-1]]


def test_data_sets(hub, tmp_path):
    hub.tokens.clear()
    results = call(
        hub,
        tmp_path,
        "dataset some/set all.jsonl",
        "dataset some/set test.jsonl.zst --split-name test --revision main",
        "dataset some/set shuffled.jsonl --shuffle-seed 3 --sample-size 100",
        "dataset some/set again.jsonl --shuffle-seed 3 --sample-size 100",
        "dataset script/set converted.jsonl --data-name de",
        "dataset script/set part.jsonl --data-name de --split-name test",
        "dataset togethercomputer/RedPajama-Data-1T-Sample red.jsonl",
        "dataset some/set all.jsonl",
    )
    assert [code for code, *_ in results] == [0] * len(results), results
    assert (tmp_path / "all.jsonl").read_bytes() == lines(5000)
    assert [row["n"] for row in read(tmp_path / "test.jsonl.zst")] == [0, 1, 2]
    shuffled = [row["n"] for row in read(tmp_path / "shuffled.jsonl")]
    assert len(set(shuffled)) == 100
    assert max(shuffled) > 1000  # not only from the beginning
    assert (tmp_path / "shuffled.jsonl").read_bytes() == (tmp_path / "again.jsonl").read_bytes()
    assert read(tmp_path / "converted.jsonl") == [{"text": "p"}, {"text": "q"}]
    assert "only the first part" in results[5][1]
    assert "only the first part" not in results[4][1]
    years = b"".join(b'{"text": "%d", "n": 1.50}\n' % year for year in range(2019, 2024))
    assert (tmp_path / "red.jsonl").read_bytes() == years  # byte for byte, the Common Crawl files alone
    assert "up to date" in results[-1][1]
    manifest = json.loads((tmp_path / "all.jsonl.manifest.json").read_text())
    assert (manifest["rows"], manifest["revision"], manifest["licence"]) == (5000, "a" * 40, "odc-by")
    assert "licence: odc-by" in results[0][1]
    assert hub.tokens == {None}  # one stored on the machine is never sent
    assert not list(tmp_path.glob(".*"))


def test_values_of_the_hub_are_those_of_the_files(hub, tmp_path):
    results = call(
        hub,
        tmp_path,
        "dataset files/set list.jsonl --data-name list",
        "dataset files/set table.jsonl --data-name table",
        "dataset files/set packed.jsonl --data-name packed",
        "dataset files/set times.jsonl --data-name times",
        "dataset told/set told.jsonl",
        "dataset pandas/set pandas.jsonl",
        "dataset files/set wrong.jsonl --data-name table --split-name test",
    )
    assert [code for code, *_ in results] == [0] * 6 + [2], "".join(error for *_, error in results)
    wanted = b'{"text": "2024-01-02", "n": 18446744073709551623}\n{"text": ["a"], "m": {"x": 1.50}}\n'
    assert (tmp_path / "list.jsonl").read_bytes() == wanted
    assert (tmp_path / "packed.jsonl").read_bytes() == lines(3)
    assert read(tmp_path / "table.jsonl") == [{"n": "007", "text": "é"}, {"n": "1", "text": "NA"}]
    assert read(tmp_path / "times.jsonl") == [{"t": None}, {"t": "2024-01-02T03:04:05.123456789"}]
    assert read(tmp_path / "told.jsonl") == read(tmp_path / "pandas.jsonl") == [{"a": 1, "b": 2}]
    assert "read by the library datasets, for the set says of itself: names" in results[5][1]
    assert results[-1][2].endswith("table/test.csv:2: 3 cells under 2 names\n")


def test_a_sample_reads_little(hub, tmp_path):
    hub.served.clear()
    assert call(hub, tmp_path, "dataset some/large few.jsonl --sample-size 3")[0][0] == 0
    assert len(read(tmp_path / "few.jsonl")) == 3
    assert 0 < hub.served["train.jsonl"] < 40 * 2**20  # of 80 MiB


def test_what_cannot_be_had_is_one_line(hub, tmp_path):
    wanted = {
        "dataset gated/set a.jsonl": "gated/set is gated: accept its terms on huggingface.co and set HF_TOKEN",
        "dataset missing/set a.jsonl": "missing/set is not on the hub: check the id",
        "dataset some/set a.jsonl --revision v9": "no such revision: check --revision",
        "dataset some/set a.jsonl --split-name dev": "choose one with --split-name",
        "dataset some/set a.jsonl --data-name xx": "choose one with --data-name",
        "dataset script/set a.jsonl": "['de', 'en']: choose one with --data-name",
        "dataset script/set a.jsonl --data-name en --split-name dev": "['train']: choose one with --split-name",
        "dataset script/only a.jsonl": "code of its own, which is not run; the hub has no Parquet conversion",
        "model missing/model m": "missing/model is not on the hub",
        "model old/model m": "has no safetensors weights (pickled ones can run code: --allow-pickle takes them)",
        "model some/model m --revision v9": "no such revision",
        "repo missing/thing r": "missing/thing is not on the hub",
    }
    for (command, message), (code, _, error) in zip(wanted.items(), call(hub, tmp_path, *wanted), strict=True):
        assert (code, error[:7], error.count("\n")) == (2, "error: ", 1), (command, error)
        assert message in error
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_tokens(hub, tmp_path):
    hub.tokens.clear()
    [(code, out, err)] = call(hub, tmp_path, "dataset gated/set a.jsonl", token=TOKEN)
    assert code == 0
    assert TOKEN in hub.tokens
    assert hub.tokens <= {TOKEN, None}  # `datasets` asks for some files without it
    assert "terms that you accepted" in out
    [(wrong, out_of_wrong, err_of_wrong)] = call(hub, tmp_path, "dataset gated/set b.jsonl", token="hf_wrong")
    assert wrong == 2
    assert "check HF_TOKEN" in err_of_wrong
    assert not {TOKEN, "hf_wrong"} & set((out + err + out_of_wrong + err_of_wrong).split())
    written = [path.read_text() for path in tmp_path.glob("*.json*")]
    assert not any(TOKEN in text for text in written)


def test_models_and_repositories(hub, tmp_path):
    commands = ["model some/model m", "model old/model old --allow-pickle", "repo some/model r", "repo some/set s"]
    results = call(hub, tmp_path, *commands)
    assert [code for code, *_ in results] == [0] * 4, results
    found = {
        name: {str(p.relative_to(tmp_path / name)) for p in (tmp_path / name).rglob("*.*")} for name in ["m", "r", "s"]
    }
    assert found["m"] == {"config.json", "model.safetensors"}
    assert found["r"] == {"config.json", "model.safetensors", "sub/x.txt"}
    assert found["s"] == {"data/train.jsonl", "data/test.jsonl"}
    assert (tmp_path / "old" / "pytorch_model.bin").read_bytes() == b"pickle"
    assert json.loads((tmp_path / "s.manifest.json").read_text())["kind"] == "dataset"
    assert json.loads((tmp_path / "m.manifest.json").read_text())["revision"] == "a" * 40


def test_a_broken_download_of_a_repository_does_not_get_into_a_model(hub, tmp_path):
    for name in (".m.partial", ".m.some--model-aaaaaaaa.partial", ".m.partial-repo-some--model-aaaaaaaa"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "code.py").write_text("")
        (tmp_path / name / "weights.bin").write_bytes(b"pickle")
    [(code, _, err)] = call(hub, tmp_path, "model some/model m")
    assert code == 0, err
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"config.json", "model.safetensors"}


@pytest.mark.parametrize("name", ["train.json.gz", "train.csv", "train.parquet"])
def test_a_broken_connection_in_the_middle_of_a_file_loses_no_row(hub, tmp_path, name):
    hub.breaks[name] = [9_000, 30_000]
    [(code, _, err)] = call(hub, tmp_path, f"dataset broken/{name.split('.')[1]} a.jsonl")
    assert hub.breaks[name] == []
    assert code == 0, err
    assert [row["n"] for row in read(tmp_path / "a.jsonl")] == list(range(5000))


@pytest.mark.parametrize("name", ["data/train.jsonl", "model.safetensors"])
def test_a_broken_connection_is_gone_on_with(hub, tmp_path, name):
    hub.breaks[name] = [20_000]
    command = "dataset some/set a.jsonl" if name.endswith("jsonl") else "model some/model m"
    [(code, _, err)] = call(hub, tmp_path, command)
    assert hub.breaks[name] == []
    assert code == 0, err
    if name.endswith("jsonl"):
        assert [row["n"] for row in read(tmp_path / "a.jsonl")] == list(range(5000))
    else:
        assert (tmp_path / "m" / name).stat().st_size == 10**5


def test_a_killed_download_goes_on(hub, tmp_path):
    target, note = tmp_path / "a.jsonl", tmp_path / ".a.jsonl.partial.json"
    words = ["--content", "dataset", "--id", "some/set", "--save-dir", str(target)]
    # Slow after 2,000 rows, so that the kill comes in the middle.
    slow = (
        "import sys, time; from data_common.hub import download; import utils; write = download._Unfinished.write\n"
        "def wait(*given): time.sleep(0.05 * (given[0].rows > 2000)); write(*given)\n"
        "download._Unfinished.write = wait; utils.main(sys.argv[1:])"
    )
    options = {"cwd": tmp_path, "env": environment(hub, tmp_path), "stdout": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-c", slow, *words], **options)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (note.exists() and json.loads(note.read_text())["rows"] == 2000):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    [(code, out, _)] = call(hub, tmp_path, "dataset some/set a.jsonl")
    assert code == 0
    assert "going on after 2,000 rows" in out
    assert [row["n"] for row in read(target)] == list(range(5000))
    assert not list(tmp_path.glob(".*"))


def test_offline(hub, tmp_path):
    for code, _, err in call(hub, tmp_path, "dataset some/set a.jsonl", "model some/model m", HF_HUB_OFFLINE="1"):
        assert code == 2
        assert "unset HF_HUB_OFFLINE" in err
        assert err.count("\n") == 1


# --- Files of this disk ----------------------------------------------------------------------------------------------


def test_files_of_this_disk(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text('text,n\n"hello, ""x""\ntwo lines",3\nb,4\n')
    (tmp_path / "b.tsv").write_text("text\tn\nc\t5\nNA\t\n")
    (tmp_path / "c.json").write_text('[{"text": "q"}, {"text": "r"}]')
    (tmp_path / "e.json").write_text(
        '[{"text": "a", "meta": {"score": 0.5}}, {"text": ["b"], "meta": {"score": 1, "src": "w"}}]'
    )
    raw = b'{"text": "1", "big": 123456789012345678901234567890}\n{"text":"2","other":[1,{"x":null}]}\n'
    (tmp_path / "d.jsonl").write_bytes(raw.replace(b"\n", b"\r\n\r\n"))
    (tmp_path / "shards").mkdir()
    for number in range(2):
        file = tmp_path / "shards" / f"{number}.parquet"
        pyarrow.parquet.write_table(pyarrow.table({"text": [f"{number}\u2028", "z"]}), file)
    wanted = {
        "a.csv": [{"text": 'hello, "x"\ntwo lines', "n": 3}, {"text": "b", "n": 4}],
        "b.tsv": [{"text": "c", "n": 5}, {"text": "NA", "n": None}],
        "c.json": [{"text": "q"}, {"text": "r"}],
        "e.json": [{"text": "a", "meta": {"score": 0.5}}, {"text": ["b"], "meta": {"score": 1, "src": "w"}}],
        "shards": [{"text": "0\u2028"}, {"text": "z"}, {"text": "1\u2028"}, {"text": "z"}],
        "shards/*.parquet": [{"text": "0\u2028"}, {"text": "z"}, {"text": "1\u2028"}, {"text": "z"}],
    }
    for number, (source, rows) in enumerate(wanted.items()):
        target = tmp_path / "out" / f"{number}.jsonl"
        assert utils.main(["--content", "dataset", "--id", source, "--save-dir", str(target)]) == 0
        assert read(target) == rows
    assert utils.main(["--content", "dataset", "--id", "d.jsonl", "--save-dir", "raw.jsonl"]) == 0
    assert (tmp_path / "raw.jsonl").read_bytes() == raw  # lines as they are
    capsys.readouterr()
    for source, message in {
        ".": "files of several kinds: .csv, .json, .jsonl, .tsv",
        "none.csv": "no such file",
        "*.npy": "no such file, or none in it that ends with",
    }.items():
        assert utils.main(["--content", "dataset", "--id", source, "--save-dir", "x.jsonl"]) == 2
        assert message in capsys.readouterr().err
    assert utils.main(["--content", "dataset", "--id", "a.csv", "--save-dir", "x.jsonl", "--split-name", "test"]) == 2
    assert "leave out --split-name" in capsys.readouterr().err


def test_values_written_by_an_older_version_are_written_again(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("n\n01\n")
    (tmp_path / "b.jsonl").write_text("{}\n")
    for source in ("a.csv", "b.jsonl"):
        words = ["--content", "dataset", "--id", f"./{source}", "--save-dir", f"{source}.out.jsonl"]
        assert utils.main(words) == 0
        record = tmp_path / f"{source}.out.jsonl.manifest.json"
        old = json.loads(record.read_text())
        assert old.pop("method_versions") == ({"dataset": 2} if source == "a.csv" else {})
        record.write_text(json.dumps(old))
        capsys.readouterr()
        assert utils.main(words) == 0
        assert ("made again: results of dataset changed" in capsys.readouterr().out) == (source == "a.csv")
    assert read(tmp_path / "a.csv.out.jsonl") == [{"n": "01"}]


def test_delimiters(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("text;n\nx,y;3\n")
    (tmp_path / "b.jsonl").write_text("{}\n")
    words = ["--content", "dataset", "--save-dir", "x.jsonl", "--id"]
    assert utils.main([*words, "a.csv"]) == 2
    assert "a.csv:1: ',' does not part the names of columns, ';' does: --delimiter ';'" in capsys.readouterr().err
    assert utils.main([*words, "b.jsonl", "--delimiter", ";"]) == 2
    assert "--delimiter is for .csv and .tsv" in capsys.readouterr().err
    assert utils.main([*words, "a.csv", "--delimiter", ""]) == 2
    assert "one character, or tab" in capsys.readouterr().err
    assert utils.main([*words, "a.csv", "--delimiter", ";"]) == 0
    assert read(tmp_path / "x.jsonl") == [{"text": "x,y", "n": 3}]


def test_a_download_is_made_again_at_its_revision(hub, tmp_path):
    commands = ["dataset some/set test.jsonl --split-name test", "model some/model model"]
    assert [code for code, *_ in call(hub, tmp_path, *commands)] == [0, 0]
    for made in ("test.jsonl", "model"):
        words = [sys.executable, str(REPOSITORY / "utils.py"), "--replay", str(tmp_path / f"{made}.manifest.json")]
        done = subprocess.run(words, env=environment(hub, tmp_path), capture_output=True, text=True)
        assert done.returncode == 0 and "\nequal: " in done.stdout, done.stdout + done.stderr
        revision = json.loads((tmp_path / f"{made}.manifest.json").read_text())["revision"]
        assert f"--revision={revision}" in done.stdout
