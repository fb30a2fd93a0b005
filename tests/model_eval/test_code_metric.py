"""Programs that pass, fail, hang, leave early, or grab memory; the code benchmarks without the hub."""

import json
import time
from pathlib import Path

import pytest

from model_eval.lm_evaluation_harness import code_metric
from model_eval.lm_evaluation_harness.code_metric import CodeMetric, passes
from tests.model_eval.direct import benchmarks
from tests.models import save_model

ADD = "def add(a, b):\n    return a + b\n"


@pytest.mark.parametrize("program, passed", [
    (ADD + "assert add(2, 3) == 5", True),
    (ADD + "assert add(2, 3) == 6", False),
    ("def add(a, b) return", False),
    ("import sys\nsys.exit(0)", False),
    ("import os\nos._exit(0)", False),
    ("x = bytearray(2**33)", False),
    ("open('big', 'wb').write(bytes(2**22))", False),
    ("print('x' * 100)\nimport resource", True),
    ("import os\nassert 'HF_TOKEN' not in os.environ and 'HOME' not in os.environ", True),
])  # fmt: skip
def test_programs(program, passed, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert passes(program) is passed


def test_a_program_that_hangs(monkeypatch):
    monkeypatch.setattr(code_metric, "SECONDS", 1)
    started = time.perf_counter()
    assert not passes("import time\ntime.sleep(60)")
    assert time.perf_counter() - started < 20


def test_share_of_problems():
    tests = ["assert add(1, 1) == 2", "assert add(1, 1) == 3"]
    found, passed = CodeMetric().compute(references=tests, predictions=[[ADD, "junk("], [ADD, ADD]], k=[1])
    assert found == {"pass@1": 0.25} and passed == {0: [True, False], 1: [False, False]}
    with pytest.raises(ValueError, match="only pass@1"):
        CodeMetric().compute(tests, [[ADD], [ADD]], k=[1, 10])


def test_code_benchmarks_without_the_hub(tmp_path, monkeypatch):
    """A model that writes the right answer to one of two problems."""
    from model_eval.lm_evaluation_harness.language_model import LanguageModel

    check = "def check(candidate):\n    assert candidate(2, 3) == 5\n"
    problem = {"prompt": "def add(a, b):\n", "test": check, "entry_point": "add"}
    mbpp = {"text": "add", "code": ADD, "test_list": ["assert add(1, 1) == 2"] * 3}
    rows = {"humaneval": [problem, problem], "mbpp": [mbpp | {"task_id": 11}, mbpp | {"task_id": 12}]}
    for name, found in rows.items():
        Path(tmp_path, f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))

    def answers(self, requests, disable_tqdm=False):
        right = {"humaneval": "    return a + b\n", "mbpp": ADD}
        return [right[request.task_name] if request.doc_id else "junk(" for request in requests]

    monkeypatch.setattr(LanguageModel, "generate_until", answers)
    keys = {"tasks": list(rows), "data_dir": str(tmp_path), "allow_code_execution": True}
    results = benchmarks(save_model(tmp_path / "model"), **keys)
    assert {name: (result["metric"], result["n"]) for name, result in results.items()} == {
        "humaneval": ("pass@1", 2),
        "mbpp": ("pass_at_1", 2),
    }
    assert all(result["value"] == 0.5 and result["stderr"] > 0 for result in results.values())
