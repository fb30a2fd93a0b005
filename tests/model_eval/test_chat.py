"""Prompts in chat templates: the text that lm-eval's own model makes of them, and the ids that the model is given."""

from pathlib import Path

import pytest
import yaml

from data_common.calls.cli import main
from data_common.messages.errors import UserError
from model_eval.entry import STAGE
from tests.model_eval.direct import evaluation, harness_method
from tests.model_eval.test_fewshot import samples_of
from tests.model_eval.test_lm_evaluation_harness import write_task
from tests.model_eval.test_prompts import BOS, GENERATED, Recorder, ask, ids_of
from tests.models import byte_tokenizer, save_model

TURNS = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
OPENING = "{% if add_generation_prompt %}[assistant] {% endif %}"
PLAIN = TURNS + OPENING
WITH_BOS = "{{ bos_token }}" + PLAIN
REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + PLAIN
DROPS = TURNS.replace("[{{ m.role }}]", "{% if m.role != 'system' %}[{{ m.role }}]").replace(
    "\n{% endfor", "\n{% endif %}{% endfor"
)
ROWS = [{"passage": f"row {n}", "continuations": ["a", "bc"], "answer": n % 2} for n in range(4)]
FEW = {"fewshot_split": "test", "num_fewshot": 1}


def model_with(folder: Path, template) -> str:
    save_model(folder)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return str(folder)


def prompts(tmp_path: Path, template, task=FEW, **keys) -> tuple[dict, list[str]]:
    model = model_with(tmp_path / "model", template)
    write_task(tmp_path, rows=ROWS, **task)
    found = evaluation(harness_method, model, tmp_path, tasks=str(tmp_path / "words.yaml"), **keys)
    samples = samples_of(tmp_path)
    return found.tasks["words"] | found.notes["settings"], [one["arguments"][0][0] for one in samples]


@pytest.mark.parametrize("keys, start", [
    ({"fewshot_as_multiturn": True}, "[user] row 2\n[assistant] a\n[user] row 0\n[assistant] "),
    ({"fewshot_as_multiturn": False}, "[user] row 2 a\n\nrow 0\n[assistant] "),
    ({"system_instruction": "Brief."}, "[system] Brief.\n[user] row 2\n[assistant] a\n[user] row 0\n[assistant] "),
])  # fmt: skip
def test_prompts_are_those_of_lm_eval(tmp_path, keys, start):
    """lm-eval's own model with the same arguments asks the same; the first one is also spelled out by hand."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    result, ours = prompts(tmp_path, PLAIN, apply_chat_template=True, seed=10, **keys)
    config = yaml.safe_load((tmp_path / "words.yaml").read_text())
    config["dataset_kwargs"] = {"data_files": {"test": str(tmp_path / "words.jsonl")}}
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/words.yaml").write_text(yaml.safe_dump(config))
    theirs = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(tmp_path / "model"), "add_bos_token": False, "dtype": "float32"},
        tasks=["words"], device="cpu", apply_chat_template=True,
        task_manager=TaskManager(include_path=str(tmp_path / "plain"), include_defaults=False),
        **{f"{kind}_seed": 10 for kind in ("random", "numpy_random", "torch_random", "fewshot_random")},
        **{"fewshot_as_multiturn": True} | keys,
    )  # fmt: skip
    assert ours == [one["arguments"][0][0] for one in theirs["samples"]["words"]]
    assert ours[0].replace("row 3", "row 2").replace("row 1", "row 2").replace("bc", "a") == start
    assert result["metrics"]["acc,none"] == theirs["results"]["words"]["acc,none"]


@pytest.mark.parametrize("template, start", [(WITH_BOS, [BOS]), (PLAIN, [])])
def test_a_template_brings_its_own_bos_once(template, start):
    """As in training on conversations: none is added where the template has none; documents get theirs as ever."""
    tokenizer = byte_tokenizer()
    model = Recorder(tokenizer, template=template)
    text = model.apply_chat_template([{"role": "user", "content": "hi"}])
    expected = [*start, *ids_of("[user] hi\n[assistant] ")]
    ask(model, "loglikelihood", (text, "yes"))
    ask(model, "generate_until", (text, {"max_gen_toks": 2, "until": []}))
    ask(model, "loglikelihood_rolling", ("hi you",))
    assert model.read == [[*expected, *ids_of("ye")], expected, [BOS, *ids_of("hi yo")]]


@pytest.mark.parametrize("template", [REFUSES, DROPS + OPENING])
@pytest.mark.parametrize("task", [FEW, GENERATED | FEW])
def test_what_the_system_says_is_never_lost(tmp_path, capsys, template, task):
    keys = {"apply_chat_template": True, "system_instruction": "Be brief.", "fewshot_as_multiturn": True}
    result, found = prompts(tmp_path, template, task, **keys)
    assert all(prompt.startswith("[user] Be brief.\n\nrow ") for prompt in found)
    note = "the chat template shows no system role: its words stand in front of the user's first ones"
    assert result["notes"][-1] == note and capsys.readouterr().out.count(note) == 1


def test_plain_text_with_an_instruction(tmp_path):
    """As of lm-eval: nothing is put between the two."""
    _, found = prompts(tmp_path, None, {}, system_instruction="Be brief.\n\n")
    assert found[0] == "Be brief.\n\nrow 0"


def test_one_of_several_templates(tmp_path):
    both = {"default": PLAIN, "short": "{% for m in messages %}{{ m.content }}|{% endfor %}"}
    for name, start in ((True, "[user] row 0\n[assistant] "), ("short", "row 0|")):
        result, found = prompts(tmp_path, both, {}, apply_chat_template=name)
        assert found[0] == start and result["apply_chat_template"] is name
    with pytest.raises(UserError, match=r"has no chat template other: apply_chat_template=default\|short"):
        prompts(tmp_path, both, {}, apply_chat_template="other")


@pytest.mark.parametrize("template, wanted, message", [
    (None, True, "has no chat template: apply_chat_template=false"),
    (PLAIN, "name", "is the only one, and has no name: apply_chat_template=true"),
    ({"short": PLAIN}, True, "has no chat template default: apply_chat_template=short"),
    ("{{ raise_exception('never') }}", True, "the chat template refuses a prompt: never"),
])  # fmt: skip
def test_templates_that_cannot_be_had(tmp_path, template, wanted, message):
    with pytest.raises(UserError, match=message):
        prompts(tmp_path, template, {}, apply_chat_template=wanted)


def test_the_call_and_its_result(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = model_with(tmp_path / "model", WITH_BOS)
    write_task(tmp_path / "task", rows=ROWS)
    words = [model, "r.yaml", "lm_evaluation_harness", "tasks=task", "device=cpu"]
    chat = ["apply_chat_template=true", "system_instruction=Be brief."]
    assert main(STAGE, [*words, *chat]) == 0
    settings = yaml.safe_load(Path("r.yaml").read_text())["settings"]
    assert settings["apply_chat_template"] is True and settings["system_instruction"] == "Be brief."
    assert settings["fewshot_as_multiturn"] is True and len(settings["chat_template"]) == 16
    assert main(STAGE, words) == 0 and "words: made again, chat was" in capsys.readouterr().out
    save_model(tmp_path / "bare")
    assert main(STAGE, ["bare", *words[1:], *chat, "--dry-run"]) == 2
    assert "the tokenizer of bare has no chat template" in capsys.readouterr().err
