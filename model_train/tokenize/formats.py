"""The formats by their names."""

from model_train.tokenize.mds import Mds
from model_train.tokenize.megatron import Megatron
from model_train.tokenize.parquet import Parquet
from model_train.tokenize.streams import LlmC, NanoGPT
from model_train.tokenize.token_format import TokenFormat

FORMATS: dict[str, type[TokenFormat]] = {
    "megatron": Megatron,
    "nanogpt": NanoGPT,
    "llm.c": LlmC,
    "mds": Mds,
    "parquet": Parquet,
}
