"""Tiny random models of architectures that read their input in many ways."""

from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from tests.models import SHAPE, VOCABULARY

IDS = {"vocab_size": VOCABULARY, "bos_token_id": 256, "eos_token_id": 257}
ENCODER = {name: SHAPE[name] for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")}
ENCODER |= {"num_attention_heads": 4, "max_position_embeddings": 66, "is_decoder": True}
WIDE = IDS | {"hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 2}
GPT = IDS | {"n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 2}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2}
EXPERTS |= {"moe_intermediate_size": 8, "shared_expert_intermediate_size": 8}
LATENT = {"num_key_value_heads": 4, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_nope_head_dim": 4}
LATENT |= {"qk_rope_head_dim": 4, "v_head_dim": 4}
MAMBA = IDS | {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}
OF_LENGTH = {"original_max_position_embeddings": 16, "rope_theta": 10000.0}
LONG = {"rope_type": "longrope", "short_factor": [1.0, 1.0], "long_factor": [3.0, 9.0]} | OF_LENGTH

ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", SHAPE),
    "llama, padding is EOS": ("llama", SHAPE | {"pad_token_id": 257}),
    "llama, padding is BOS": ("llama", SHAPE | {"pad_token_id": 256}),
    "llama, tied, padding is EOS": ("llama", SHAPE | {"pad_token_id": 257, "tie_word_embeddings": True}),
    "mistral": ("mistral", SHAPE | {"sliding_window": 4}),
    "qwen2": ("qwen2", SHAPE),
    "qwen3": ("qwen3", SHAPE | {"head_dim": 4}),
    "gemma": ("gemma", SHAPE | {"head_dim": 4}),
    "gemma2": ("gemma2", SHAPE | {"head_dim": 4, "sliding_window": 4, "final_logit_softcapping": 3.0}),
    "gemma3_text": ("gemma3_text", SHAPE | {"head_dim": 4, "sliding_window": 4}),
    "gpt2": ("gpt2", GPT),
    "gpt_neo": (
        "gpt_neo",
        IDS
        | {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "max_position_embeddings": 64, "window_size": 4}
        | {"attention_types": [[["global", "local"], 1]]},
    ),
    "gptj": ("gptj", GPT | {"rotary_dim": 4}),
    "gpt_neox": ("gpt_neox", WIDE | {"intermediate_size": 24, "max_position_embeddings": 64}),
    "gpt_bigcode": ("gpt_bigcode", GPT),
    "gpt_oss": (
        "gpt_oss",
        SHAPE
        | EXPERTS
        | {"head_dim": 4, "sliding_window": 4, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    ),
    "bloom": ("bloom", IDS | {"hidden_size": 16, "n_layer": 2, "n_head": 4}),
    "mpt": ("mpt", IDS | {"d_model": 16, "n_heads": 4, "n_layers": 2, "max_seq_len": 64}),
    "falcon": ("falcon", WIDE),
    "mamba": ("mamba", MAMBA),
    "mamba2": ("mamba2", MAMBA | {"num_heads": 4, "head_dim": 8, "n_groups": 2, "chunk_size": 4}),
    "falcon_mamba": ("falcon_mamba", MAMBA),
    "rwkv": ("rwkv", IDS | {"hidden_size": 16, "num_hidden_layers": 2, "context_length": 64}),
    "xglm": (
        "xglm",
        IDS
        | {"d_model": 16, "ffn_dim": 24, "num_layers": 2, "attention_heads": 4, "max_position_embeddings": 64}
        | {"pad_token_id": 1},
    ),
    "opt": (
        "opt",
        WIDE | {"ffn_dim": 24, "max_position_embeddings": 64, "word_embed_proj_dim": 16, "pad_token_id": 1},
    ),
    "phi": ("phi", SHAPE),
    "phi3": ("phi3", SHAPE | {"pad_token_id": 0}),
    "phi3, longrope": (
        "phi3",
        SHAPE | {"pad_token_id": 0, "original_max_position_embeddings": 16, "rope_parameters": LONG},
    ),
    "stablelm": ("stablelm", SHAPE),
    "olmo2": ("olmo2", SHAPE | {"pad_token_id": 1}),
    "cohere": ("cohere", SHAPE | {"pad_token_id": 0}),
    "granite": ("granite", SHAPE | {"logits_scaling": 2.0, "residual_multiplier": 0.5}),
    "smollm3": ("smollm3", SHAPE | {"pad_token_id": 0}),
    "ctrl": ("ctrl", {"vocab_size": VOCABULARY, "n_embd": 16, "dff": 24, "n_layer": 2, "n_head": 2, "n_positions": 64}),
    "deepseek_v3": (
        "deepseek_v3",
        SHAPE | EXPERTS | LATENT | {"n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1},
    ),
    "minicpm3": ("minicpm3", SHAPE | LATENT),
    "mixtral": ("mixtral", SHAPE | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen3_moe": ("qwen3_moe", SHAPE | EXPERTS | {"decoder_sparse_step": 1, "head_dim": 4}),
    "jetmoe": ("jetmoe", SHAPE | EXPERTS | {"kv_channels": 4}),
    "hrm_text": ("hrm_text", SHAPE),
    "glm4_moe": (
        "glm4_moe",
        SHAPE
        | EXPERTS
        | {"head_dim": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1},
    ),
    "recurrent_gemma": (
        "recurrent_gemma",
        SHAPE | {"head_dim": 4, "lru_width": 16, "attention_window_size": 4, "num_hidden_layers": 3, "pad_token_id": 0},
    ),
    "lfm2": ("lfm2", SHAPE | {"layer_types": ["conv", "full_attention"], "pad_token_id": 0}),
    "qwen3_next": (
        "qwen3_next",
        SHAPE
        | EXPERTS
        | {"head_dim": 4, "layer_types": ["linear_attention", "full_attention"], "linear_num_value_heads": 4}
        | {"linear_num_key_heads": 2, "linear_key_head_dim": 4, "linear_value_head_dim": 4},
    ),
    "biogpt": ("biogpt", WIDE | {"intermediate_size": 24, "max_position_embeddings": 64, "pad_token_id": 1}),
    "rembert": ("rembert", ENCODER | {"input_embedding_size": 8, "output_embedding_size": 8, "pad_token_id": 0}),
    "bert": ("bert", ENCODER),
    "bert, in chunks": ("bert", ENCODER | {"chunk_size_feed_forward": 4}),
    "roberta": ("roberta", ENCODER | {"pad_token_id": 1, "bos_token_id": 256, "eos_token_id": 257}),
    "camembert": ("camembert", ENCODER | {"pad_token_id": 1, "bos_token_id": 256, "eos_token_id": 257}),
}
SEES_LATER = {
    "bert, an encoder": ("bert", ENCODER | {"is_decoder": False}),
    "xlnet": ("xlnet", {"vocab_size": VOCABULARY, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 24}),
}


def config_of(name: str):
    """The configuration of an architecture."""
    kind, keys = (ARCHITECTURES | SEES_LATER)[name]
    return CONFIG_MAPPING[kind](**keys)


def plain_model(name: str, dtype: torch.dtype = torch.float64) -> torch.nn.Module:
    """As transformers has it, with eager attention and experts, and weights large enough for all to matter."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_of(name), attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    for module in model.modules():
        if hasattr(module, "chunk_size_feed_forward"):
            module.chunk_size_feed_forward = 0
    model.config.rescale_every = 0
    model = model.to(dtype)
    model.set_experts_implementation("eager")
    return model
