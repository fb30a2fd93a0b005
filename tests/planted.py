"""Model folders with Python code of their own, which leaves a mark where it runs."""

import json
from pathlib import Path

from tests.models import save_model

MARKED = "from pathlib import Path\nPath({mark!r}).touch()\n"
MODELLING = """
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel
class PlantedConfig(LlamaConfig):
    model_type = "planted"
class PlantedModel(LlamaModel):
    config_class = PlantedConfig
class PlantedForCausalLM(LlamaForCausalLM):
    config_class = PlantedConfig
    def __init__(self, config):
        super().__init__(config)
        self.model = PlantedModel(config)
        self.post_init()
"""
TOKENIZING = """
from transformers import PreTrainedTokenizerFast
class PlantedTokenizer(PreTrainedTokenizerFast):
    pass
"""
MODEL = {
    "AutoConfig": "modelling.PlantedConfig",
    "AutoModel": "modelling.PlantedModel",
    "AutoModelForCausalLM": "modelling.PlantedForCausalLM",
}


def plant(folder: Path, kind: str = "model", seed: int = 0) -> Path:
    """A folder whose code creates the file that is returned when it runs.

    kind: model = an architecture that only its code knows; causal = one without an AutoModel; tokenizer = a tokenizer
    that only its code knows; known = code for an architecture and a tokenizer that transformers knows; generate = code
    for generation.
    """
    mark = folder.with_name(f"{folder.name}-ran")
    save_model(folder, "llama-untied", seed)
    (folder / "modelling.py").write_text(MARKED.format(mark=str(mark)) + MODELLING)
    (folder / "tokenizing.py").write_text(MARKED.format(mark=str(mark)) + TOKENIZING)
    if kind in ("model", "causal", "known"):
        auto_map = {name: code for name, code in MODEL.items() if kind != "causal" or name != "AutoModel"}
        architecture = {} if kind == "known" else {"model_type": "planted", "architectures": ["PlantedForCausalLM"]}
        change(folder / "config.json", auto_map=auto_map, **architecture)
    if kind in ("tokenizer", "known"):
        known = {} if kind == "known" else {"tokenizer_class": "PlantedTokenizer"}
        auto_map = {"AutoTokenizer": [None, "tokenizing.PlantedTokenizer"]}
        change(folder / "tokenizer_config.json", auto_map=auto_map, **known)
    if kind == "generate":
        (folder / "custom_generate").mkdir()
        (folder / "custom_generate" / "generate.py").write_text(MARKED.format(mark=str(mark)) + "def generate(): ...\n")
    return mark


def change(path: Path, **values: object) -> None:
    """Set values of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")
