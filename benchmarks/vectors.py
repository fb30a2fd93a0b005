"""Vectors by an encoder against plain length-sorted forward passes, and what finding stored ones costs.

DELT_DATA=... python -m benchmarks.vectors [--texts 200] [--repeats 5]

Documents of C4, cut to 256 tokens; a BERT of MiniLM's shape with random weights, mean pooling, one thread. Each way
loads model and tokenizer, and goes from texts to vectors of length 1; torch is imported before.
"""

import argparse
import gzip
import json
import os
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers, trainers
from tokenizers import models as token_models
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from benchmarks.measure import alternate, print_table
from data_common.vectors.embedding import EmbeddingSpace
from data_common.vectors.language_model import CPU_BATCH_TOKENS
from data_common.vectors.settings import Embedder

LENGTH = 256  # tokens
SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


def read(count: int) -> list[str]:
    """Documents, each once."""
    path = Path(os.environ["DELT_DATA"], "c4_en/c4_en_train_head_1000.jsonl.gz")
    with gzip.open(path) as lines:
        return [json.loads(line)["text"] for line in islice(lines, count)]


def write_encoder(folder: str, texts: Sequence[str]) -> None:
    """Six layers of width 384, 8,000 word pieces."""
    tokenizer = Tokenizer(token_models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=8000, special_tokens=list(SPECIAL.values()), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12}
    BertModel(BertConfig(vocab_size=8000, **shape)).save_pretrained(folder)


@torch.inference_mode()
def plain(folder: str, texts: Sequence[str]) -> np.ndarray:
    """All tokens first, then batches of neighbours in length, with a mask."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    encoded = tokenizer(list(texts), add_special_tokens=False, truncation=True, max_length=LENGTH - 2)["input_ids"]
    documents = [[start, *ids, end] for ids in encoded]
    order = sorted(range(len(documents)), key=lambda number: len(documents[number]))
    result = np.empty((len(texts), model.config.hidden_size), np.float32)
    while order:
        longest, batch = 0, []
        while order and (len(batch) + 1) * max(longest, len(documents[order[0]])) <= CPU_BATCH_TOKENS:
            longest = max(longest, len(documents[order[0]]))
            batch.append(order.pop(0))
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        for row, number in enumerate(batch):
            ids[row, : len(documents[number])] = torch.tensor(documents[number])
        mask = torch.tensor([[place < len(documents[number]) for place in range(longest)] for number in batch])
        hidden = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        mean = (hidden * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True)
        result[batch] = torch.nn.functional.normalize(mean, dim=1).numpy()
    return result


def ours(folder: str, texts: Sequence[str], cache: str | None = None) -> np.ndarray:
    """cache: None = an empty one."""
    with tempfile.TemporaryDirectory() as empty:
        os.environ["DELT_CACHE"] = cache or empty
        settings = Embedder(embedder=folder, embedding_max_length=LENGTH, device="cpu", dtype="float32")
        return np.array(EmbeddingSpace(settings, texts).vectors(texts))


def run(folder: str, count: int, repeats: int) -> None:
    """Print the table."""
    texts = read(count)
    write_encoder(f"{folder}/encoder", texts)
    ours(f"{folder}/encoder", texts, f"{folder}/cache")
    shuffled = [texts[number] for number in np.random.default_rng(0).permutation(count)]
    ways = {
        "plain forward passes": lambda: plain(f"{folder}/encoder", texts),
        "vectors": lambda: ours(f"{folder}/encoder", texts),
        "vectors of a shuffled copy, found": lambda: ours(f"{folder}/encoder", shuffled, f"{folder}/cache"),
    }
    runs = alternate(ways, repeats)
    seconds = {name: run.cpu for name, run in runs.items()}
    first = next(iter(seconds.values()))
    print_table(
        f"{count} documents, {repeats} alternating runs",
        ["way", "CPU s (median)", "of plain"],
        [[name, f"{one:.2f}", f"{one / first:.3f}"] for name, one in seconds.items()],
    )
    difference = np.abs(runs["vectors"].result.astype(np.float32) - runs["plain forward passes"].result).max()
    print(f"largest difference of a number: {difference:.1e} (16 bits: 5e-4 of it)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run(folder, asked.texts, asked.repeats)
