"""The methods as plain functions: a folder for the traces of each call, which is then thrown away."""

import tempfile
from pathlib import Path
from typing import Any

from data_common.files.manifest import Run
from data_common.files.work_folder import WorkFolder
from model_eval.evaluation import Evaluation
from model_eval.lm_evaluation_harness import method as harness_method
from model_eval.perplexity import method as perplexity_method


def evaluation(method, model: str, folder: Path, **keys: Any) -> Evaluation:
    """Call a method with the work folder that the stage would give it."""
    given = {"data_dir": None, "num_fewshot": None, "contamination_data": None} | keys
    run = Run("model_eval", "m", {}, {"model": model} | method.inputs(given), str(folder / "result.yaml"))
    with WorkFolder(folder / "result.yaml.work", run.contents()).locked() as work:
        return method.evaluate(model, work, **keys)


def perplexity(model: str, **keys: Any) -> dict[str, dict[str, Any]]:
    """The results of the method perplexity, by corpus."""
    with tempfile.TemporaryDirectory() as folder:
        return evaluation(perplexity_method, model, Path(folder), **keys).tasks


def benchmarks(model: str, **keys: Any) -> dict[str, dict[str, Any]]:
    """The results of the method lm_evaluation_harness, by task."""
    with tempfile.TemporaryDirectory() as folder:
        return evaluation(harness_method, model, Path(folder), **keys).tasks
