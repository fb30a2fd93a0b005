"""What a saved model takes over from its tokenizer, and a padding token that is a token of documents."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from data_common.calls.cli import main
from model_train.architectures import load_for_training
from model_train.entry import STAGE
from model_train.special_ids import take_over
from tests.model_train.conftest import write_rows
from tests.models import byte_tokenizer, random_model, save_model

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat_tokenizer(end: str = "<|im_end|>"):
    """Ids 258 and 259 are the marks of a turn."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.eos_token, tokenizer.chat_template = end, CHAT
    return tokenizer


def with_room(run):
    """The model of `run` with embeddings for those two."""
    model = AutoModelForCausalLM.from_pretrained(run.folder / "model")
    model.resize_token_embeddings(260, mean_resizing=False)
    model.save_pretrained(run.folder / "model")


def saved(run, name):
    return json.loads((run.folder / "out" / name).read_text())


def test_a_model_stops_where_the_tokenizer_that_it_is_trained_with_ends_a_turn(run, capsys):
    with_room(run)
    chat_tokenizer().save_pretrained(run.folder / "tokenizer")
    write_rows(run.folder / "in.jsonl", [{"prompt": f"q{i}", "response": "ok"} for i in range(64)])
    keys = [f"tokenizer={run.folder}/tokenizer", "max_length=64", "batch_size=4", "gradient_accumulation_steps=1"]
    keys += ["learning_rate=0.02", "epochs=12", "logging_steps=50", "save_steps=100"]
    assert main(STAGE, run.words(*keys, method="posttrain")) == 0
    assert "note: eos_token_id was 257, is 259, as the tokenizer says" in capsys.readouterr().out
    assert saved(run, "config.json")["eos_token_id"] == saved(run, "generation_config.json")["eos_token_id"] == 259
    assert saved(run, "checkpoint-100/config.json")["eos_token_id"] == 259
    tokenizer = AutoTokenizer.from_pretrained(run.folder / "out")
    model = AutoModelForCausalLM.from_pretrained(run.folder / "out").eval()
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "q3"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**prompt, max_new_tokens=20, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(answer) == "ok<|im_end|>"


def test_a_template_without_eos_is_told(run, capsys):
    with_room(run)
    write_rows(run.folder / "in.jsonl", [{"prompt": "q", "response": "ok"}])
    for end, told in (("</s>", True), ("<|im_end|>", False)):
        chat_tokenizer(end).save_pretrained(run.folder / "model")
        assert main(STAGE, run.words("max_length=64", "resume=never", method="posttrain")) == 0
        assert ("warning: no answer ends with EOS (</s>): the model will not stop" in capsys.readouterr().out) == told


@pytest.mark.parametrize(("stops", "told"), [([257, 259], False), ([257, 258], True), (None, True)])
def test_all_ids_of_eos_that_generation_stops_at_are_looked_at(run, capsys, stops, told):
    """As of Gemma, whose tokenizer has another EOS than the end of a turn."""
    with_room(run)
    chat_tokenizer("</s>").save_pretrained(run.folder / "model")
    path = run.folder / "model/generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": stops}))
    write_rows(run.folder / "in.jsonl", [{"prompt": "q", "response": "ok"}])
    assert main(STAGE, run.words("max_length=64", method="posttrain")) == 0
    out = capsys.readouterr().out
    names = "</s>, <|im_start|>" if stops else "</s>"
    warning = (
        f"warning: no answer ends with EOS ({names}): the model will not stop by itself; they end with <|im_end|> ("
    )
    assert (warning in out) == told == ("no answer ends" in out)
    assert saved(run, "generation_config.json")["eos_token_id"] == (stops or 257)


@pytest.mark.parametrize(
    ("before", "foreign", "after"),
    [
        (257, True, 259),
        (257, False, 259),
        ([257, 5, 259], False, [257, 5, 259]),
        ([257, 5, 259], True, [257, 259]),
        ([257, 5], True, 259),
        ([257, 5], False, [259, 257, 5]),
        (None, False, 259),
    ],
)
def test_ids_of_eos_that_stay(before, foreign, after):
    model = random_model("llama-untied")
    model.generation_config.eos_token_id = before
    model.config.eos_token_id = 259
    changes = take_over(model, chat_tokenizer(), foreign)
    assert model.generation_config.eos_token_id == after
    assert any(change.startswith(f"eos_token_id was {before}, is") for change in changes) == (before != after)


def test_other_ids_are_those_of_a_foreign_tokenizer():
    for foreign, bos, pad in ((False, 7, 9), (True, 256, None)):
        model = random_model("llama-untied")
        model.config.bos_token_id, model.config.pad_token_id = 7, 9
        take_over(model, byte_tokenizer(), foreign)
        assert (model.config.bos_token_id, model.config.pad_token_id) == (bos, pad)


def embeddings(run, padding, tokenizer):
    """The embedding as made, which is not the output layer, and its weight as trained."""
    save_model(run.folder / "model", "llama-untied")
    config = AutoConfig.from_pretrained(run.folder / "model")
    config.pad_token_id = padding
    config.save_pretrained(run.folder / "model")
    tokenizer.save_pretrained(run.folder / "model")
    assert main(STAGE, run.words("from_scratch=true", "max_tokens=300", "resume=never", "weight_decay=0")) == 0
    shape = (16, True, "sdpa", torch.float32, 10)
    made = load_for_training(str(run.folder / "model"), tokenizer, *shape).get_input_embeddings()
    return made, load_file(run.folder / "out/model.safetensors")["model.embed_tokens.weight"]


@pytest.mark.parametrize("padding", [256, 257, ord("r")])
def test_a_padding_token_of_documents_is_learned(run, padding):
    tokenizer = byte_tokenizer()
    if padding > 255:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(padding)
    else:
        padding = tokenizer.convert_tokens_to_ids("r")
    made, trained = embeddings(run, padding, tokenizer)
    assert made.padding_idx is None
    others = torch.cat([made.weight[:padding], made.weight[padding + 1 :]])
    assert made.weight[padding].std().item() == pytest.approx(others.std().item(), rel=0.5)
    assert (trained[padding] - made.weight[padding]).abs().min() > 0


def test_a_padding_token_that_only_pads_stays_as_it_is(run):
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = "!"
    made, trained = embeddings(run, tokenizer.pad_token_id, tokenizer)
    assert made.padding_idx == tokenizer.pad_token_id
    assert not made.weight[tokenizer.pad_token_id].any() and not trained[tokenizer.pad_token_id].any()


def test_weights_that_are_trained_stay(run):
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = "</s>"
    model = AutoModelForCausalLM.from_pretrained(run.folder / "model", pad_token_id=257)
    model.get_input_embeddings().weight.data[257] = 0
    model.save_pretrained(run.folder / "model")
    loaded = load_for_training(str(run.folder / "model"), tokenizer, 16, "auto", "sdpa", torch.float32, 10)
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    assert loaded.get_input_embeddings().padding_idx is None
