"""Vectors of texts by a table with a vector for each token: the mean of those of a text; no network, no torch.

Reads folders of model2vec (with a reduced vocabulary, too), of StaticEmbedding of sentence-transformers, and any other
folder with tokenizer.json and a safetensors file that holds one table.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_common.messages.errors import UserError

NAMES = ("embeddings", "embedding.weight")  # of the table, where the file holds more than one


def is_static_table(path: str) -> bool:
    """Whether a folder holds a table rather than a model of transformers."""
    folder = Path(path)
    if not (folder / "tokenizer.json").is_file() or not any(folder.glob("*.safetensors")):
        return False
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type", "model2vec")
    except FileNotFoundError:
        return True
    except (OSError, ValueError, AttributeError):
        return False
    return kind == "model2vec"


class StaticTable:
    """Texts to vectors of length 1; `width` numbers each, `part` texts at a time are a good number."""

    part = 4096

    def __init__(self, path: str, max_length: int):
        """path: folder. max_length: tokens of a text that are read. Raises: UserError where it cannot be read."""
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        self.max_length = max_length
        try:
            self.tokenizer = Tokenizer.from_file(str(Path(path) / "tokenizer.json"))
            tensors = load_file(sorted(Path(path).glob("*.safetensors"))[0])
        except Exception as error:  # tokenizers raise the class itself
            raise UserError(f"cannot load the vectors of {path}: {str(error).splitlines()[0]}") from error
        tables = [name for name in (*NAMES, *tensors) if name in tensors and tensors[name].ndim == 2]
        if not tables:
            raise UserError(f"cannot load the vectors of {path}: no table of token vectors ({', '.join(tensors)})")
        self.table = tensors[tables[0]].astype(np.float32)
        self.width = self.table.shape[1]
        size = self.tokenizer.get_vocab_size()
        self.rows = tensors.get("mapping", np.arange(size))
        self.weights = tensors.get("weights", np.ones(size)).astype(np.float32)
        if len(self.rows) < size or len(self.weights) < size or self.rows.max(initial=-1) >= len(self.table):
            raise UserError(f"tokenizer and table of {path} do not fit: {size} tokens, {len(self.table)} vectors")
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.unknown = _unknown(self.tokenizer)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, width) float32; NaN for a text without a token that is known."""
        result = np.full((len(texts), self.width), np.nan, np.float32)
        for number, encoded in enumerate(self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)):
            ids = np.array(encoded.ids[: self.max_length], np.int64)
            ids = ids[ids != self.unknown]
            total = self.weights[ids] @ self.table[self.rows[ids]]
            if (length := np.linalg.norm(total)) > 0:
                result[number] = total / length
        return result


def _unknown(tokenizer) -> int:
    """The token that stands for what the vocabulary lacks; -1 if the table has no such token."""
    model = json.loads(tokenizer.to_str())["model"]
    found = tokenizer.token_to_id(model["unk_token"]) if model.get("unk_token") else model.get("unk_id")
    return -1 if found is None else found
