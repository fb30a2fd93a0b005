"""The models that are measured: random weights, of the sizes and shapes in use."""

import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2Model, MistralConfig

SIZES = {  # hidden, feed-forward, layers, heads, vocabulary
    "160m": (768, 3072, 12, 12, 32000),
    "67m": (512, 2048, 12, 8, 16000),
    "16m": (384, 1536, 6, 6, 2048),
    "tiny": (96, 192, 3, 6, 2048),
}
SCORER_SIZES = {  # hidden, layers, heads, vocabulary
    "124m": (768, 12, 12, 50257),
    "6m": (256, 4, 4, 8192),
    "tiny": (96, 3, 6, 2048),
}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def annotator(size: str, attention: str = "sdpa", device: torch.device = DEVICE) -> torch.nn.Module:
    """A Mistral of this size in float32 with untied embeddings."""
    hidden, feed_forward, layers, heads, vocabulary = SIZES[size]
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        sliding_window=None,
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).to(device).eval()


def scorer_backbone(size: str, attention: str = "sdpa") -> torch.nn.Module:
    """A GPT-2 of this size without its output layer, in float32."""
    width, layers, heads, vocabulary = SCORER_SIZES[size]
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocabulary, n_embd=width, n_layer=layers, n_head=heads, bos_token_id=0, eos_token_id=0
    )
    return GPT2Model._from_config(config, attn_implementation=attention).to(DEVICE).eval()


def parameter_count(model: torch.nn.Module) -> int:
    """Numbers in all parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
