"""Load a model and its tokenizer from a folder or the hub; pick device and dtype, and say why."""

import contextlib
import functools
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as verbosity

from data_common.calls import remote_code
from data_common.hub.network import hub_answers, hub_token
from data_common.messages.errors import UserError
from data_common.messages.redaction import redact
from data_common.models.settings import settle, with_attention
from data_common.models.special_tokens import Special, read_as
from data_common.models.tokens import embedding_count, id_count, special_tokens
from data_common.parallel import distributed

Dtype = Literal["auto", "float64", "float32", "bfloat16"]
verbosity.disable_progress_bar()  # of reading and writing weights; the stages show their own progress

TOKENIZERS = ("tokenizer*", "vocab*", "*.model", "*.tiktoken", "tekken.json")  # of whatever kind
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def pick_device(device: str) -> torch.device:
    """`auto` is a CUDA device, else Apple's MPS, else the CPU. Prints the choice and its reason, once.

    Of several processes on a machine (NPROC) each gets a CUDA device of its own.
    """
    reason = "asked for"
    if device == "auto":
        if torch.cuda.is_available():
            device, reason = "cuda", torch.cuda.get_device_name()
        elif torch.backends.mps.is_available():
            device, reason = "mps", "no CUDA, MPS is there"
        else:
            device, reason = "cpu", f"no GPU found, {torch.get_num_threads()} threads"
    if device == "cuda" and distributed.size() > 1:
        device = f"cuda:{distributed.local_rank()}"
    try:
        picked = torch.device(device)
        torch.empty(0, device=picked)
    except (RuntimeError, AssertionError) as error:
        reason = "no such device" if str(error).startswith("Expected one of") else _first_line(error)
        raise UserError(f"device {device} cannot be used: {reason} (device=auto, cpu, cuda, cuda:1 or mps)") from None
    _say_once(f"device: {picked} ({reason})")
    return picked


def pick_dtype(dtype: Dtype, device: torch.device, default: str | None = None) -> torch.dtype:
    """`auto` is `default`; without one, bfloat16 where the device computes in it natively, else float32.

    Prints the choice and its reason, once.
    """
    reason = "asked for"
    if dtype == "auto" and default:
        dtype, reason = default, "what the method needs"
    elif dtype == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = "bfloat16" if fast else "float32"
        reason = "the device has native bfloat16" if fast else "no native bfloat16 on this device"
    _say_once(f"dtype: {dtype} ({reason})")
    return getattr(torch, dtype)


_say_once = functools.cache(print)


def load_tokenizer(path: str, trust_remote_code: bool = False, special: Special = "tokens"):
    """The tokenizer of a folder or hub id. trust_remote_code: run Python code that comes with it.

    special: how it reads text that spells a special token, such as </s>.

    Raises: UserError if it is missing, or needs such code that is not to run.
    """
    if Path(path).is_dir() and not any(any(Path(path).glob(pattern)) for pattern in TOKENIZERS):
        cure = "copy that of the model that it comes from there; training takes tokenizer=FOLDER, too"
        raise UserError(f"cannot load the tokenizer of {path}: the folder has none (tokenizer.json, ...): {cure}")
    with errors_of(path, "tokenizer"), _quiet_configuration():
        options = source_options(path) | {"trust_remote_code": trust_remote_code}
        tokenizer = AutoTokenizer.from_pretrained(path, **options)
    _tell_code(path, tokenizer, tokenizer.init_kwargs)
    if not any(special_tokens(tokenizer)):
        raise UserError(f"the tokenizer of {path} has neither BOS nor EOS, neither CLS nor SEP")
    templates = tokenizer.chat_template if isinstance(tokenizer.chat_template, dict) else {}
    if odd := [name for name in templates if Path(name).name != name]:
        raise UserError(f"the tokenizer of {path} has a chat template whose name is no file name: {odd[0]}")
    read_as(tokenizer, special)
    return tokenizer


def load_model(path: str, tokenizer, weights: bool = True, **options: Any) -> torch.nn.Module:
    """A causal LM with its weights, in evaluation mode.

    weights: else it is on the device `meta`, where it computes nothing: what is wrong with it is known without them.
    options: of `from_pretrained` (dtype, attn_implementation); Python code that comes with a model runs only with
    trust_remote_code=True.
    Raises: UserError where it does not load, has no weights, or has fewer embeddings than the tokenizer has tokens.
    """
    return _load(AutoModelForCausalLM, path, tokenizer, weights, options)


def load_backbone(path: str, tokenizer, weights: bool = True, **options: Any) -> torch.nn.Module:
    """An encoder or a causal LM without its head, in evaluation mode; its output has `last_hidden_state`.

    weights, options: as of `load_model`. Raises: UserError as `load_model`, and for an encoder-decoder.
    """
    model = _load_body(path, tokenizer, weights, options)
    if model.config.is_encoder_decoder:
        raise UserError(f"the model {path} is an encoder-decoder: an encoder or a causal language model is needed")
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # not behind the hidden states, and often without trained weights
    return model


def load_on_device(
    path: str,
    tokenizer,
    device: str,
    dtype: Dtype,
    default: str | None = None,
    attention: str = "sdpa",
    trust_remote_code: bool = False,
) -> torch.nn.Module:
    """`load_model` on the device and in the dtype that `pick_device` and `pick_dtype` choose."""
    picked = pick_device(device)
    options = {"dtype": pick_dtype(dtype, picked, default), "attn_implementation": attention}
    return load_model(path, tokenizer, trust_remote_code=trust_remote_code, **options).to(picked)


def new_model(path: str, tokenizer, seed: int, trust_remote_code: bool = False, **options: Any) -> torch.nn.Module:
    """A causal LM of the architecture of `path` with random weights drawn from `seed`. options: as of `load_model`."""
    trust = {"trust_remote_code": trust_remote_code}
    with errors_of(path, "model configuration"):
        config = AutoConfig.from_pretrained(path, **source_options(path), **trust)
        model = random_model(config, seed, **trust, **options)
    _tell_code(path, model, vars(model.config))
    check_vocabulary(model, tokenizer, path)
    return model


def random_model(config, seed: int, attn_implementation: str | None = None, **options: Any) -> torch.nn.Module:
    """A causal LM as a configuration describes it. options: of `from_config`. Raises: whatever transformers does."""

    def build(attention: str | None) -> torch.nn.Module:
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, attn_implementation=attention, **options)

    model = with_attention(build, attn_implementation)
    settle(model)
    return model


def has_weights(path: str) -> bool:
    """Whether a folder holds weights; a hub id is taken to have them."""
    return not Path(path).is_dir() or any(any(Path(path).glob(pattern)) for pattern in WEIGHTS)


def check_vocabulary(model: torch.nn.Module, tokenizer, path: str) -> None:
    """Raises UserError where the tokenizer puts a token around every text for which the model has no embedding.

    Others (a padding token that was added and is never used) matter where they occur: `tokens.check_ids`.
    """
    rows = embedding_count(model)
    start, end = special_tokens(tokenizer)
    if max(start + end) >= rows:
        raise UserError(f"tokenizer and model of {path} do not fit: {id_count(tokenizer)} tokens, {rows} embeddings")


def source_options(path: str) -> dict[str, bool]:
    """Options of `from_pretrained`: where the hub is out of reach, a hub id can only be an earlier download.

    Raises: UserError for a hub id where HF_TOKEN, which transformers reads itself, is no token.
    """
    if Path(path).is_dir():
        return {}
    hub_token()
    return {} if hub_answers() else {"local_files_only": True}


def _load_body(path: str, tokenizer, weights: bool, options: dict[str, Any]) -> torch.nn.Module:
    """A model without its head; where code that comes with it knows it with the head only, it is taken off."""
    code = {}
    if options.get("trust_remote_code"):
        with errors_of(path, "model configuration"):
            config = AutoConfig.from_pretrained(path, **source_options(path), trust_remote_code=True)
        code = getattr(config, "auto_map", {})
    if "AutoModel" in code or "AutoModelForCausalLM" not in code:
        return _load(AutoModel, path, tokenizer, weights, options)
    whole = _load(AutoModelForCausalLM, path, tokenizer, weights, options)
    if whole.base_model is whole:
        raise UserError(f"the Python code of {path} does not tell its model without the head (auto_map: AutoModel)")
    if remote_code.comes_with(whole.base_model):
        type(whole.base_model).register_for_auto_class("AutoModel")  # saved with its code
    return whole.base_model


def _check_index(folder: Path) -> None:
    """Raises UserError for weights that an index looks for in another folder: they are not part of this model."""
    for index in folder.glob("*.index.json"):
        for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values():
            if Path(name).name != name:
                raise UserError(f"{index} names weights of another folder: {name}")


def _load(architecture: type, path: str, tokenizer, weights: bool, options: dict[str, Any]) -> torch.nn.Module:
    if not has_weights(path):
        raise UserError(f"the model {path} has no weights (a configuration alone can only be trained from scratch)")
    with errors_of(path, "model"), _quiet_transformers():
        _check_index(Path(path))
        trust, source = {"trust_remote_code": options.pop("trust_remote_code", False)}, source_options(path)
        attention = options.pop("attn_implementation", None)

        def load(attention: str | None) -> tuple[torch.nn.Module, dict[str, Any]]:
            chosen = {**options, **trust, "attn_implementation": attention}
            if weights:
                return architecture.from_pretrained(path, output_loading_info=True, **source, **chosen)
            config = AutoConfig.from_pretrained(path, **source, **trust)
            with torch.device("meta"):
                return architecture.from_config(config, **chosen), {"missing_keys": ()}

        model, report = with_attention(load, attention)
    random = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if random:
        raise UserError(f"the weights of {path} do not fit its configuration: {len(random)} are missing ({random[0]})")
    _tell_code(path, model, vars(model.config))
    check_vocabulary(model, tokenizer, path)
    settle(model)
    return model.eval()


def _tell_code(path: str, loaded: Any, settings: dict[str, Any]) -> None:
    """Print what became of Python code that came with a model or tokenizer. settings: of it; `auto_map` names the code.

    Where the code was not needed, `auto_map` is removed: what is saved of `loaded` comes without the code.
    """
    runs = any(map(remote_code.comes_with, (loaded, getattr(loaded, "config", None))))
    if runs or "auto_map" in settings:
        remote_code.tell(path, runs)
    if not runs:
        settings.pop("auto_map", None)


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without the table of weights that are not needed (the head of a model of which only the backbone is taken)."""
    level = verbosity.get_verbosity()
    verbosity.set_verbosity_error()
    try:
        yield
    finally:
        verbosity.set_verbosity(level)


@contextlib.contextmanager
def _quiet_configuration() -> Iterator[None]:
    """Without the warning that a tokenizer is read without the configuration of a model that needs code of its own."""
    log = logging.getLogger("transformers.configuration_utils")
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(logging.NOTSET)


@contextlib.contextmanager
def errors_of(path: str, what: str) -> Iterator[None]:
    """Turn the many ways in which loading fails into one line that says what to do."""
    local = Path(path).is_dir()
    if not local and (Path(path).exists() or path.startswith((".", "/", "~")) or path.count("/") > 1):
        hub = path.partition("huggingface.co/")[2].split("/")[:2]  # of an address
        cure = f": as an id of the hub it is {'/'.join(hub)}" if hub[0] else ""
        cure = ": it is a file (name the folder that holds config.json)" if Path(path).is_file() else cure
        raise UserError(f"no model folder {path}{cure}")
    before = remote_code.loaded()
    try:
        yield
    except UserError:
        raise
    except BaseException as error:  # tokenizers raise the class itself, and PanicException, which is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        if remote_code.is_refusal(error):
            raise UserError(remote_code.refusal(path, what)) from error
        hint = "" if local else " (no such folder; as a hub id it could not be had either)"
        raise UserError(f"cannot load the {what} of {path}{hint}: {_first_line(error)}") from error
    finally:
        if remote_code.loaded() - before:
            remote_code.tell(path, True)


def _first_line(error: BaseException) -> str:
    return redact((str(error).strip() or type(error).__name__).split("\n")[0])
