"""Real benchmarks from local files: our numbers are those of lm-eval's own `simple_evaluate`."""

import gzip
import json
import os
from pathlib import Path

import pytest
import yaml

from data_common.embedded.tiny_model import random_model
from model_eval.lm_evaluation_harness.stock_tasks import tasks_folder
from tests.model_eval.direct import benchmarks
from tests.models import byte_tokenizer

DATA = os.environ.get("DELT_DATA")
LIMIT = 8
TASKS = {  # task file of lm-eval, split, data
    "sciq": ("sciq/sciq.yaml", "test", "eval_sciq/sciq_test.jsonl.gz"),
    "winogrande": ("winogrande/default.yaml", "validation", "eval_winogrande/winogrande_validation_hfcolumns.jsonl.gz"),
    "piqa": ("piqa/piqa.yaml", "validation", "eval_piqa/piqa_val.jsonl.gz"),
    "lambada_openai": ("lambada/lambada_openai.yaml", "test", "eval_lambada/lambada_openai_test.jsonl.gz"),
}

pytestmark = pytest.mark.skipif(not DATA, reason="real benchmarks: set DELT_DATA to the folder that holds them")


def of_the_hub(name: str, row: dict) -> dict:
    """A conversion of its own, by hand."""
    if name == "piqa":
        goal = row["query"][len("Question: ") : -1]
        return {"goal": goal, "sol1": row["choices"][0], "sol2": row["choices"][1], "label": row["gold"]}
    if name == "lambada_openai":
        return {"text": row["context"] + " " + row["continuation"]}
    return row


def test_equal_to_simple_evaluate(tmp_path):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    model = str(tmp_path / "model")
    random_model(seed=0).save_pretrained(model)
    byte_tokenizer().save_pretrained(model)
    ours = benchmarks(model, tasks=list(TASKS), data_dir=DATA, limit=LIMIT, batch_size=4, device="cpu")
    for name, (specification, split, file) in TASKS.items():
        rows = map(json.loads, gzip.decompress(Path(DATA, file).read_bytes()).decode().split("\n")[:-1])
        data = tmp_path / f"{name}.jsonl"
        data.write_text("".join(json.dumps(of_the_hub(name, row)) + "\n" for row in rows))
        splits = dict.fromkeys(("training_split", "validation_split", "test_split")) | {f"{split}_split": split}
        kwargs = {"data_files": {split: str(data)}, "cache_dir": str(tmp_path / "cache")}
        task = {"include": str(tasks_folder() / specification), "task": name, "dataset_path": "json"}
        task |= {"dataset_name": None, "dataset_kwargs": kwargs, **splits}
        (tmp_path / "tasks").mkdir(exist_ok=True)
        (tmp_path / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump(task))
    theirs = simple_evaluate(
        model="hf",
        model_args={"pretrained": model, "add_bos_token": True, "dtype": "float32"},
        tasks=list(TASKS),
        device="cpu",
        batch_size=4,
        limit=LIMIT,
        bootstrap_iters=1000,
        task_manager=TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False),
        **{f"{kind}_seed": 10 for kind in ("random", "numpy_random", "torch_random", "fewshot_random")},
    )["results"]
    for name in TASKS:
        assert ours[name]["n"] == LIMIT
        for key, value in ours[name]["metrics"].items():
            assert value == pytest.approx(theirs[name][key], rel=1e-6)
        stderr = theirs[name][f"{ours[name]['metric']}_stderr,none"]
        assert ours[name]["stderr"] == pytest.approx(stderr, rel=1e-6)
