"""Tiny models and tokenizers that tests build on the spot."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as token_models
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

VOCABULARY = 258  # 256 bytes, BOS, EOS
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 256,
    "eos_token_id": 257,
}
CONFIGURATIONS = {
    "mistral-tied": MistralConfig(**SHAPE, tie_word_embeddings=True, sliding_window=None),
    "llama-untied": LlamaConfig(**SHAPE, tie_word_embeddings=False),
    "qwen2-biases": Qwen2Config(**SHAPE, tie_word_embeddings=True),
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY, n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=256, eos_token_id=257
    ),
}


def each_once(*words: str) -> list[str]:
    """key=value words; of a key that is there twice the last one, as a call may give each once."""
    return [f"{key}={value}" for key, value in dict(word.split("=", 1) for word in words).items()]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, BOS `<s>`, EOS `</s>`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: number for number, piece in enumerate([*alphabet, "<s>", "</s>"])}
    tokenizer = Tokenizer(token_models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def random_model(name: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.nn.Module:
    """A model of CONFIGURATIONS with weights larger than usual, so that curvature matters."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CONFIGURATIONS[name], attn_implementation="sdpa").to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def save_model(folder: Path, name: str = "mistral-tied", seed: int = 0) -> str:
    """A folder with model and tokenizer, as a user would have it."""
    random_model(name, torch.float32, seed).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


def encoder_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, CLS and SEP, neither BOS nor EOS."""
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "[PAD]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(token_models.BPE({piece: number for number, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    specials = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **specials)


def save_encoder(folder: Path) -> str:
    """The same for an encoder."""
    torch.manual_seed(0)
    config = {name: SHAPE[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers")}
    config |= {"vocab_size": 259, "num_attention_heads": 2, "max_position_embeddings": 64}
    BertModel(BertConfig(**config)).save_pretrained(folder)
    encoder_tokenizer().save_pretrained(folder)
    return str(folder)
