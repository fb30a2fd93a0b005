"""A tiny Mistral with random weights and a byte-level BPE of its own, for demonstrations and tests on a CPU."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

from data_common.messages.errors import UserError
from data_common.rows.json_line import Text, document_text
from data_common.rows.jsonl import open_source, read_rows

SEED = 0
PIECES = 2048
MAX_LENGTH = 1024  # tokens
BOS, EOS = "<s>", "</s>"  # pieces 0 and 1; bytes need no unknown piece


def build(folder: Path, corpus: str, seed: int = SEED) -> dict[str, Any]:
    """Fill `folder` with tokenizer, architecture and random weights; the tokenizer learns from field `text`.

    corpus: a JSONL file, glob or folder. Prints a summary; returns the counts of documents, pieces and parameters.

    Raises: UserError where the corpus cannot be read, is empty, or a row of it has no text.
    """
    with open_source(corpus, key="--data") as source:
        texts = [document_text(text) for _, _, text in read_rows(source, {"text": Text})]
    if not texts:
        raise UserError(f"{corpus} has no rows to learn a tokenizer from")
    tokenizer = train_tokenizer(texts)
    model = random_model(seed)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    counts = {"documents": len(texts), "pieces": len(tokenizer), "parameters": model.num_parameters()}
    print(f"tokenizer: {counts['pieces']} pieces, learned from {counts['documents']} documents")
    print(f"model: {counts['parameters'] / 1e6:.2f} M parameters ({counts['parameters']}), random weights")
    return counts


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most PIECES pieces (fewer where `texts` are few) that puts BOS before a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )


def random_model(seed: int) -> MistralForCausalLM:
    """The architecture (0.44 M parameters) with weights drawn from `seed`; the caller's generator is left alone."""
    config = MistralConfig(
        vocab_size=PIECES,
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=192,
        max_position_embeddings=MAX_LENGTH,
        sliding_window=None,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MistralForCausalLM(config)
