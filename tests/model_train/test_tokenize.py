"""Rows as token ids in the files of other trainers, read here by the published layouts with readers of our own."""

import json
import os
import struct
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import utils
from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY
from data_common.messages.errors import UserError
from data_common.models import tokens as token_module
from data_common.models.loading import load_tokenizer
from data_common.rows.json_line import document_text
from model_train.entry import STAGE
from model_train.pretrain.method import Training
from model_train.tokenize import documents, mds, megatron, streams
from model_train.tokenize.documents import Documents, in_shards
from model_train.tokenize.method import differing
from tests.models import byte_tokenizer, save_model

TEXTS = [f"row {i}: " + "abc " * (i % 7) for i in range(30)]
ODD = ["", "a\u2028b\u2029c", " \n", "x" * 30_000, "</s> is text", "é😀", "\r", "tab\tend "]
ROWS = [{"text": text, "id": number} for number, text in enumerate([*TEXTS, *ODD, *reversed(TEXTS)])]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with rows and a tokenizer."""
    monkeypatch.chdir(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path / "tokenizer")
    write(tmp_path / "in.jsonl", ROWS)
    return tmp_path


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def tokenize(*keys, source="in.jsonl", tokenizer="tokenizer", out="out", code=0):
    assert main(STAGE, [source, tokenizer, out, "tokenize", *keys]) == code


def expected(rows=ROWS):
    """BOS, the bytes of the text as the letters that stand for them, EOS; rows of white space are left out."""
    letters = load_tokenizer("tokenizer").get_vocab()
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    letter = {byte: chr(byte) if byte in printable else chr(next(others)) for byte in range(256)}
    texts = [row["text"] for row in rows if row["text"].strip()]
    return [[256, *(letters[letter[byte]] for byte in text.encode()), 257] for text in texts]


def read_megatron(prefix):
    """By the layout of Megatron-LM's index."""
    index = Path(f"{prefix}.idx").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00"
    version, code, count, boundaries = struct.unpack_from("<QBQQ", index, 9)
    assert version == 1 and boundaries == count + 1
    lengths = np.frombuffer(index, np.int32, count, 34)
    pointers = np.frombuffer(index, np.int64, count, 34 + 4 * count)
    limits = np.frombuffer(index, np.int64, count + 1, 34 + 12 * count)
    assert len(index) == 34 + 20 * count + 8 and limits.tolist() == list(range(count + 1))
    kind = {8: np.uint16, 4: np.int32}[code]
    content = Path(f"{prefix}.bin").read_bytes()
    assert len(content) == lengths.sum() * kind().itemsize
    return [
        np.frombuffer(content, kind, length, pointer).tolist()
        for length, pointer in zip(lengths, pointers, strict=True)
    ]


def read_llm_c(path):
    """By the header of llm.c."""
    header = np.fromfile(path, np.int32, 256)
    kind = {(20240520, 1): np.uint16, (20240801, 7): np.uint32}[header[0], header[1]]
    ids = np.fromfile(path, kind, offset=1024)
    assert len(ids) == header[2] and not header[3:].any()
    return ids.tolist()


def read_parquet(folder):
    """By pyarrow's table."""
    return [
        ids for path in sorted(Path(folder).glob("*.parquet")) for ids in pq.read_table(path)["input_ids"].to_pylist()
    ]


def read_mds(folder):
    """By the layout of Streaming: what each place in a shard points to."""
    shards, found = json.loads(Path(folder, "index.json").read_text())["shards"], []
    for shard in shards:
        content = Path(folder, shard["raw_data"]["basename"]).read_bytes()
        assert len(content) == shard["raw_data"]["bytes"] and shard["column_encodings"] == ["ndarray:int32"]
        count = struct.unpack_from("<I", content)[0]
        places = struct.unpack_from(f"<{count + 1}I", content, 4)
        assert count == shard["samples"] and places[-1] == len(content)
        names = {name: shard[name] for name in shard if name not in ("raw_data", "samples", "zip_data")}
        assert json.loads(content[8 + 4 * count : places[0]]) == names
        for start, end in pairwise(places):
            size, mark = struct.unpack_from("<IB", content, start)
            kind = {4: "B", 5: "H", 6: "I"}[mark]  # one dimension; of uint8, uint16 or uint32
            (length,) = struct.unpack_from(f"<{kind}", content, start + 5)
            assert size == end - start - 4 == 1 + struct.calcsize(kind) + 4 * length
            found.append(list(struct.unpack_from(f"<{length}i", content, end - 4 * length)))
    return found


def flat(lists):
    return [token for one in lists for token in one]


def test_megatron(folder, capsys):
    tokenize("format=megatron")
    assert read_megatron("out/corpus") == expected()
    manifest = json.loads(Path("out.manifest.json").read_text())
    facts = {name: manifest[name] for name in ("rows", "documents", "tokens", "rows_without_text", "token_type")}
    count = len(expected())
    sizes = {"rows": len(ROWS), "documents": count, "rows_without_text": len(ROWS) - count, "token_type": "uint16"}
    assert facts == sizes | {"tokens": len(flat(expected()))} and manifest["read_back_documents"] == count
    assert sorted(path.name for path in folder.iterdir()) == [
        "in.jsonl",
        "out",
        "out.manifest.json",
        "tokenizer",
    ]
    capsys.readouterr()
    tokenize("format=megatron")
    assert "up to date" in capsys.readouterr().out


def test_nanogpt(folder):
    tokenize("format=nanogpt")
    assert os.listdir("out") == ["train.bin"]
    assert np.memmap("out/train.bin", np.uint16, "r").tolist() == flat(expected())


def test_llm_c_in_one_file_and_in_several_with_whole_documents(folder):
    tokenize("format=llm.c")
    assert os.listdir("out") == ["train_000000.bin"] and read_llm_c("out/train_000000.bin") == flat(expected())
    tokenize("format=llm.c", "shard_tokens=100", out="parts")
    shards = [read_llm_c(path) for path in sorted(Path("parts").iterdir())]
    assert flat(shards) == flat(expected()) and len(shards) > 10
    assert all(shard[0] == 256 and shard[-1] == 257 for shard in shards)
    longer = [shard for shard in shards if len(shard) > 100]
    assert [len(shard) for shard in longer] == [30_002]  # one document
    assert all(len(one) + other.index(257) + 1 > 100 for one, other in pairwise(shards))  # none had room for one more


@pytest.mark.parametrize(("form", "read"), [("parquet", read_parquet), ("mds", read_mds)])
def test_parquet_and_mds(form, read, folder):
    write(folder / "long.jsonl", [*ROWS, *({"text": "y" * size} for size in (253, 254, 65_533, 65_534))])
    rows = [json.loads(line) for line in Path("long.jsonl").read_text().split("\n")[:-1]]
    tokenize(f"format={form}", source="long.jsonl")
    assert read("out") == expected(rows)
    tokenize(f"format={form}", "shard_tokens=200", source="long.jsonl", out="parts")
    assert read("parts") == expected(rows) and len(os.listdir("parts")) > 10


class Huge(bytes):
    def __len__(self):
        return 2**32


def test_a_shard_of_mds_is_below_4_gib(folder):
    with pytest.raises(UserError, match="is more than MDS holds: shard_tokens=25"):
        mds.Mds(258, 100)._write_shard(folder / "shard", [Huge()])
    assert not (folder / "shard").exists()


def test_documents_are_those_of_pretrain(folder):
    tokenizer = load_tokenizer("tokenizer", special="text")
    encoded = Training().encoder(tokenizer)([row["text"] for row in ROWS])
    tokenize("format=megatron")
    assert read_megatron("out/corpus") == [ids for row in encoded for ids, _ in row.texts]


def test_several_fields_and_special_tokens(folder):
    write(folder / "two.jsonl", [{"a": "x", "b": ["y", "z"]}, {"a": "", "b": "</s>"}])
    tokenize("text_field=[a,b]", "special_tokens_in_text=tokens", source="two.jsonl")
    rows = [{"text": document_text(values)} for values in (("x", ["y", "z"]),)]
    newline = expected([{"text": "\nq"}])[0][1]
    assert read_megatron("out/corpus") == [*expected(rows), [256, newline, 257, 257]]


def test_bad_rows_stop_or_are_dropped_and_counted(folder, capsys):
    with open("in.jsonl", "a") as file:
        file.write('\n{"text": 1}\n{"text": "last"}\n')
    tokenize(code=2)
    assert f"in.jsonl:{len(ROWS) + 2}: text is a number" in capsys.readouterr().err and not os.path.exists("out")
    tokenize("on_bad_row=drop")
    assert read_megatron("out/corpus") == expected([*ROWS, {"text": "last"}])
    manifest = json.loads(Path("out.manifest.json").read_text())
    assert sum(manifest["dropped_rows"].values()) == 1 and manifest["blank_lines"] == 1


def test_parts_and_shards_of_the_source_change_nothing(folder, monkeypatch):
    tokenize("format=llm.c", "shard_tokens=500")
    os.mkdir("shards")
    for number in range(4):
        write(folder / f"shards/{number}.jsonl", ROWS[number * 17 : number * 17 + 17])
    monkeypatch.setattr(documents, "PART_BYTES", 300)
    tokenize("format=llm.c", "shard_tokens=500", out="small")
    tokenize("format=llm.c", "shard_tokens=500", source="shards", out="sharded")
    content = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    for other in ("small", "sharded"):
        assert {path.name: path.read_bytes() for path in Path(other).iterdir()} == content


class Killed(BaseException):
    """Nothing catches it."""


def killed(monkeypatch, owner, name, after):
    """A call that is killed when `owner.name` is called once more than `after` times. -> what it was called with."""
    seen, real = [], getattr(owner, name)

    def counting(*words):
        if len(seen) == after:
            raise Killed
        seen.append(words[-1])
        return real(*words)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, counting)
        with pytest.raises(Killed):
            tokenize()
    assert not os.path.exists("out") and not os.path.exists("out.manifest.json")
    return seen


def test_a_killed_call_goes_on(folder, monkeypatch):
    monkeypatch.setattr(documents, "PART_BYTES", 300)
    tokenize(out="whole")
    first = killed(monkeypatch, documents.DocumentParts, "_encoded", 5)
    second = killed(monkeypatch, documents.DocumentParts, "_encoded", 4)
    assert not set(first) & set(second)
    third = killed(monkeypatch, megatron.Megatron, "write", 0)
    monkeypatch.setattr(documents.DocumentParts, "_encoded", lambda *_: pytest.fail("all parts are there"))
    tokenize()
    for name in ("corpus.bin", "corpus.idx"):
        assert Path("out", name).read_bytes() == Path("whole", name).read_bytes()
    assert not third and not os.path.exists("out.work") and not os.path.exists("whole.work")


def test_two_processes_give_the_same_bytes(folder):
    os.mkdir("shards")
    for number in range(5):
        write(folder / f"shards/{number}.jsonl", ROWS[number * 14 : number * 14 + 14])
    tokenize(source="shards")
    words = ["bash", str(REPOSITORY / "model_train/entry.sh"), "shards", "tokenizer", "two", "tokenize"]
    environment = os.environ | {"NPROC": "2", "DELT_PYTHON": sys.executable}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    for name in ("corpus.bin", "corpus.idx"):
        assert Path("two", name).read_bytes() == Path("out", name).read_bytes()
    assert json.loads(Path("two.manifest.json").read_text())["processes"] == 2


@pytest.mark.parametrize(
    ("vocabulary", "keys", "kind"),
    [(65_499, ["megatron"], np.uint16), (65_500, ["megatron"], np.int32), (65_537, ["llm.c"], np.uint32)],
)
def test_the_type_of_the_ids_follows_the_vocabulary(vocabulary, keys, kind, folder, monkeypatch):
    monkeypatch.setattr(token_module, "id_count", lambda tokenizer: vocabulary)
    tokenize(f"format={keys[0]}")
    assert json.loads(Path("out.manifest.json").read_text())["token_type"] == kind.__name__
    if keys == ["llm.c"]:
        assert read_llm_c("out/train_000000.bin") == flat(expected())
    else:
        assert read_megatron("out/corpus") == expected()


def test_mistakes_are_told_in_one_line(folder, capsys, monkeypatch):
    os.mkdir("taken")
    Path("taken/mine.txt").write_text("mine")
    write(folder / "none.jsonl", [])
    write(folder / "blank.jsonl", [{"text": " "}])
    Path("a.yaml").write_text("model_type: mistral\n")
    (folder / "empty").mkdir()
    cases = [
        (["format=megatrn"], {}, "format: megatrn is not valid"),
        (["shard_tokens=5"], {}, "format=megatron is one file: shard_tokens=null"),
        (["text_field=body"], {}, "in.jsonl:1: body is missing"),
        (["max_length=5"], {}, "unknown key 'max_length'"),
        ([], {"out": "taken"}, "taken exists and is no unchanged result of this call"),
        ([], {"tokenizer": "empty"}, "cannot load the tokenizer of empty"),
        ([], {"tokenizer": "a.yaml"}, "a.yaml is an architecture file"),
        ([], {"source": "none.jsonl"}, "none.jsonl holds no rows"),
    ]
    for keys, words, message in cases:
        for flags in ([], ["--dry-run"]):
            tokenize(*keys, *flags, **words, code=2)
            assert message in (said := capsys.readouterr().err) and said.count("\n") == 1, (keys, said)
    tokenize(source="blank.jsonl", code=2)
    assert "no row has any text" in capsys.readouterr().err
    monkeypatch.setattr(token_module, "id_count", lambda tokenizer: 65_537)
    tokenize("format=nanogpt", code=2)
    assert "format=nanogpt holds token ids up to 65,535" in capsys.readouterr().err
    assert Path("taken/mine.txt").read_text() == "mine" and not os.path.exists("out")


def test_a_dry_run_writes_nothing(folder, capsys):
    before = sorted(folder.rglob("*"))
    tokenize("--dry-run")
    assert sorted(folder.rglob("*")) == before and "format: megatron" in capsys.readouterr().out


def test_what_is_not_read_back_in_order_is_never_put_in_place(folder, capsys, monkeypatch):
    real = megatron.Megatron.write

    def swapped(self, where, parts):
        def change(part):
            lengths = part.lengths.copy()
            lengths[[len(TEXTS), len(TEXTS) + 1]] = lengths[[len(TEXTS) + 1, len(TEXTS)]]  # behind the row without text
            return Documents(part.tokens, lengths, part.offsets)

        real(self, where, map(change, parts))

    monkeypatch.setattr(megatron.Megatron, "write", swapped)
    tokenize(code=2)
    place = f"in.jsonl:{len(TEXTS) + 2}"
    assert f"MODEL_OUT is not read back as it was written ({place})" in capsys.readouterr().err
    assert not os.path.exists("out") and not os.path.exists("out.manifest.json")


def test_the_comparison_finds_each_kind_of_fault():
    parts = [
        Documents(np.array([1, 2, 3]), np.array([2, 1]), np.array([0, 9])),
        Documents(np.array([4]), np.array([1]), np.array([20])),
    ]
    right = [np.array([1, 2]), np.array([3]), np.array([4])]
    assert not list(differing(parts, iter(right)))
    assert list(differing(parts, iter(right[:2]))) == [20]
    assert list(differing(parts, iter([*right, np.array([])]))) == [None]
    assert list(differing(parts, iter([right[1], right[0], right[2]]))) == [0, 9]
    assert list(differing(parts[::-1], iter([right[2], *right[:2]]))) == [0]  # parts out of order


def test_shards_hold_as_much_as_fits_against_brute_force():
    generator = np.random.default_rng(0)
    for _ in range(50):
        sizes = [generator.integers(2, 9, generator.integers(0, 6)) for _ in range(4)]
        parts = [Documents(np.zeros(some.sum()), some, np.arange(len(some))) for some in sizes]
        limit = int(generator.integers(1, 20))
        found: dict[int, list[int]] = {}
        for shard, piece in in_shards(parts, limit):
            found.setdefault(shard, []).extend(piece.lengths.tolist())
        wanted: list[list[int]] = []
        for size in np.concatenate(sizes).tolist():
            if wanted and sum(wanted[-1]) + size <= limit:
                wanted[-1].append(size)
            else:
                wanted.append([size])
        assert list(found) == list(range(len(wanted))) and list(found.values()) == wanted


def test_a_stream_with_ids_too_many_or_another_header_is_found(folder):
    tokenize("format=llm.c")
    form = streams.LlmC(258, None)
    lengths = [len(one) for one in expected()]
    assert len(list(form.read(Path("out"), lengths))) == len(lengths)
    assert len(list(form.read(Path("out"), lengths[:-1]))) == len(lengths)  # what is left is one more
    with open("out/train_000000.bin", "ab") as file:
        file.write(b"\0\0")
    with pytest.raises(AssertionError, match="another header"):
        list(form.read(Path("out"), lengths))


def test_replay_compares_the_whole_folder(folder, capfd):
    tokenize()
    capfd.readouterr()
    assert utils.main(["--replay", "out.manifest.json"]) == 0
    assert "\nequal: " in capfd.readouterr().out
    record = json.loads(Path("out.manifest.json").read_text())
    record["output"]["xxh3"] = "0" * 32
    Path("out.manifest.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit) as end:
        utils.main(["--replay", "out.manifest.json"])
    assert end.value.code == 1


def test_a_slash_behind_out_is_no_matter(folder):
    tokenize(out="deep/out/")
    assert read_megatron("deep/out/corpus") == expected()
    assert sorted(os.listdir("deep")) == ["out", "out.manifest.json"]


def test_weights_beside_the_tokenizer_are_no_matter(folder):
    save_model(folder / "model")
    tokenize(tokenizer="model")
    assert read_megatron("out/corpus") == expected()
