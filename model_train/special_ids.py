"""Special tokens of a model that is trained, as its tokenizer has them: the ids that it stops at, those it learns."""

import torch

from data_common.models.special_tokens import special_names

NAMES = ("eos_token_id", "bos_token_id", "pad_token_id")


def learn_padding(model: torch.nn.Module, tokenizer, seed: int | None) -> None:
    """Let a padding token that stands in documents too (EOS, say) be learned as any other token.

    transformers leaves its embedding zero, and without gradient. seed: of random weights, where the model has such (a
    row like the others takes the place of zeros, whose normalisation would have a huge gradient); None = trained ones.
    """
    embedding = model.get_input_embeddings()
    padding = getattr(embedding, "padding_idx", None)
    if padding is None or not _is_real(padding, tokenizer):
        return
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding) and module.num_embeddings == embedding.num_embeddings:
            if module.padding_idx == padding and seed is not None and not module.weight[padding].any():
                _draw(module.weight, padding, seed)
            module.padding_idx = None


@torch.no_grad()
def _draw(weight: torch.Tensor, row: int, seed: int) -> None:
    """Fill a row with what the others are drawn from."""
    generator = torch.Generator().manual_seed(seed)
    others = torch.cat([weight[:row], weight[row + 1 :]])
    weight[row] = (torch.randn(weight.shape[1], generator=generator) * others.std()).to(weight)


def _is_real(token: int, tokenizer) -> bool:
    """Whether documents may hold it: only a token that does nothing but to pad is in none."""
    roles = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id)
    return token != tokenizer.pad_token_id or token in (*roles, tokenizer.unk_token_id)


def stop_ids(model: torch.nn.Module) -> list[int]:
    """Where `generate` of a model stops: one id, several, or none."""
    configs = (getattr(model, "generation_config", None), model.config)
    found = next((ids for config in configs if (ids := getattr(config, NAMES[0], None)) is not None), [])
    return found if isinstance(found, list) else [found]


def take_over(model: torch.nn.Module, tokenizer, foreign: bool) -> list[str]:
    """Write the tokenizer's EOS into the configurations of a model, which stops at it. -> the changes in words.

    foreign: the tokenizer is not the model's own, so that its other special tokens are written too, those that it has
    not as well. Several ids of EOS stay, the model's own with that of its tokenizer; of a foreign one if it has that
    id, but for what is no special token of it.
    """
    special, changes = set(tokenizer.convert_tokens_to_ids(special_names(tokenizer))), []
    configs = [model.config, model.config.get_text_config(), getattr(model, "generation_config", None)]
    for config in {id(config): config for config in configs if config is not None}.values():
        for name in NAMES if foreign else NAMES[:1]:
            before, now = getattr(config, name, None), getattr(tokenizer, name)
            if isinstance(before, list) and now is not None and (now in before or not foreign):
                now = [now] * (now not in before) + [token for token in before if token in special or not foreign]
            if before != now and (now is not None or foreign):
                setattr(config, name, now)
                changes.append(f"{name} was {before}, is {now}")
    return list(dict.fromkeys(changes))
