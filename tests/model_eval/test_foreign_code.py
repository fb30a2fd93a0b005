"""Task files of other people run no code: neither functions nor templates, metrics, data or ways to generate."""

import json
from pathlib import Path

import pytest
import yaml

from data_common.messages.errors import UserError
from model_eval.lm_evaluation_harness.groups import Found, read_place
from model_eval.lm_evaluation_harness.task_files import tasks_folder
from tests.model_eval.direct import benchmarks as evaluate
from tests.model_eval.test_lm_evaluation_harness import items, write_task
from tests.models import save_model
from tests.planted import MARKED

ESCAPES = [  # all ways out that are known of templates without a sandbox
    "cycler.__init__.__globals__.os.system({command!r})",
    "self.__init__.__globals__.__builtins__.__import__('os').system({command!r})",
    "passage.__class__.__mro__[1].__subclasses__()",
    "(passage|attr('__class__')).__mro__",
    "passage['__class__']['__base__']",
    "'{{0.__class__.__init__.__globals__}}'.format(cycler)",
    "namespace.__init__.__globals__['__builtins__']",
    "lipsum.__globals__['os'].popen({command!r}).read()",
    "(passage.split.__self__.__class__ or 1)",
    "continuations.append.__self__.__class__",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def mark(tmp_path) -> Path:
    """The file that planted code would make, and code that does so in every file that a test plants."""
    return tmp_path / "ran"


def code(mark: Path) -> str:
    return MARKED.format(mark=str(mark)) + "def f(*_, **__):\n    Path({mark!r}).touch()\n".replace(
        "{mark!r}", repr(str(mark))
    )


def refused(folder: Path, match: str, **keys) -> None:
    with pytest.raises(UserError, match=match) as error:
        evaluate("no-model", tasks=str(folder), **keys)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "line",
    [
        "doc_to_text: !function evil.f",
        "doc_to_text: !<!function> evil.f",
        "process_docs: !function evil.f",
        "process_results: !function evil.f",
        "custom_dataset: !function evil.f",
        "class: !function evil.f",
        "metadata: {deep: [{er: !function evil.f}]}",
        "metric_list: [{metric: !function evil.f, aggregation: mean}]",
        "metric_list: [{metric: acc, aggregation: !function evil.f}]",
        "fewshot_config: {sampler: first_n, samples: !function evil.f}",
        "filter_list: [{name: a, filter: [{function: !function evil.f}]}]",
        "anchor: &code {doc_to_text: !function evil.f}\n<<: *code",
        "!function evil.f : value",
        "description: !other evil.f",
    ],
)
@pytest.mark.parametrize("included", [False, True])
def test_a_function_of_a_task_file_is_refused(tmp_path, mark, line, included):
    path = write_task(tmp_path)
    (tmp_path / "evil.py").write_text(code(mark))
    path = path.rename(tmp_path / "part") if included else path
    rest = {key: value for key, value in yaml.safe_load(path.read_text()).items() if key != line.split(":")[0]}
    path.write_text(f"{line}\n{yaml.safe_dump(rest)}")
    if included:
        (tmp_path / "words.yaml").write_text("include: part\n")
    number = line.count("\n") + 1 if "<<" not in line else 1
    refused(
        tmp_path, rf"^words: {path}:{number}: !\w+ evil\.f runs Python code; allow_code_execution=true if you trust it$"
    )
    assert not mark.exists()


@pytest.mark.parametrize("tag", ["!!python/name:os.system", "!!python/object/apply:os.system [true]"])
def test_objects_of_python_are_no_yaml(tmp_path, tag):
    path = write_task(tmp_path)
    path.write_text(f"description: {tag}\n{path.read_text()}")
    refused(tmp_path, "cannot read the task file .*words")


def test_a_call_that_allows_no_code_gives_lm_eval_values_only(tmp_path, mark, model, monkeypatch):
    """Whatever lm-eval's reader would make of the file of the user: it is not read a second time."""
    path = write_task(tmp_path)
    (tmp_path / "evil.py").write_text(code(mark))
    [task] = read_place(str(path)).tasks
    path.write_text(path.read_text().replace("passage", "!function evil.f"))
    monkeypatch.setattr("model_eval.lm_evaluation_harness.preflight.read_place", lambda place: Found([task]))
    assert evaluate(model, tasks=str(path))["words"]["n"] == 12 and not mark.exists()


@pytest.mark.parametrize("escape", ESCAPES)
@pytest.mark.parametrize("place", ["doc_to_text", "doc_to_target", "doc_to_choice"])
def test_templates_are_rendered_in_a_sandbox(tmp_path, mark, escape, place):
    template = f"{{{{ {escape.format(command=f'touch {mark}')} }}}}"
    write_task(tmp_path, **{place: template})
    refused(tmp_path, r"^words: its template does what no template may do: \S.*")
    assert not mark.exists()


def test_a_template_that_turns_in_a_later_row_is_one_line_too(tmp_path, mark, model):
    rows = [*items(3), items()[3] | {"passage": "now"}]
    write_task(tmp_path, rows=rows, doc_to_text="{% if passage == 'now' %}{{ cycler.__init__ }}{% endif %}a")
    with pytest.raises(UserError, match=r"^its template does what no template may do: .*__init__"):
        evaluate(model, tasks=str(tmp_path))


def test_templates_use_methods_of_plain_values_only():
    from lm_eval.utils import apply_template

    from model_eval.lm_evaluation_harness import harness  # noqa: F401 (sets the sandbox)

    class Picture:
        """As in a row with a picture."""

        def save(self, path: str) -> None:
            raise AssertionError

    with pytest.raises(UserError, match="save"):
        apply_template("{{ picture.save('/tmp/x') }}", {"picture": Picture()})
    for template in ("{{ missing }}", "{{ {}.missing }}"):
        with pytest.raises(Exception, match="missing") as error:
            apply_template(template, {})
        assert type(error.value).__name__ == "UndefinedError"  # of the strict kind, as before


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{a.strip()}}: {{b|join(', ')}}\n", "x: p, q\n"),
        ("{{a|regex_replace('x', 'y')}}", " y "),
        ("{% for one in b %}{{loop.index}}{{one}}{% endfor %}", "1p2q"),
        ("{{b.index('q')}}{{d.label}}{{'%s' % a}}{{'{}'.format(a)}}", "15 x  x "),
        ("{% set n = namespace(k=0) %}{% for i in range(3) %}{% set n.k = n.k + i %}{% endfor %}{{n.k}}", "3"),
        ("{{d.items()|list}}{{when.year}}", "[('label', 5)]2020"),
    ],
)
def test_harmless_templates_give_what_they_gave(template, text):
    import datetime

    from lm_eval.utils import apply_template

    from model_eval.lm_evaluation_harness import harness  # noqa: F401

    row = {"a": " x ", "b": ["p", "q"], "d": {"label": 5}, "when": datetime.date(2020, 1, 1)}
    assert apply_template(template, row) == text


@pytest.mark.parametrize(
    "metric", [{"metric": "./evil"}, {"metric": "someone/space"}, {"metric": "acc", "hf_evaluate": True}]
)
def test_metrics_that_are_code_are_refused(tmp_path, mark, metric, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "evil.py").write_text(code(mark))
    write_task(tmp_path / "task", metric_list=[{"aggregation": "mean", "higher_is_better": True} | metric])
    refused(
        tmp_path / "task", rf"^words: the metric {metric['metric']}, which is not of lm-eval, runs Python code; allow"
    )
    assert not mark.exists()


def test_a_folder_here_with_the_name_of_a_metric_is_not_run_in_its_place(tmp_path, mark, monkeypatch):
    import evaluate as metrics

    from model_eval.lm_evaluation_harness.code_metric import guard_metrics

    monkeypatch.setattr(metrics, "load", metrics.load)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rouge").mkdir()
    (tmp_path / "rouge" / "rouge.py").write_text(code(mark))
    guard_metrics(allow_code=False)
    with pytest.raises(UserError, match="rouge of the working folder would run"):
        metrics.load("rouge")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset_path": "pandas"}, r"words\.yaml: dataset_path: pandas runs Python code"),
        ({"dataset_path": "./script.py", "dataset_kwargs": {"trust_remote_code": True}}, "cannot be loaded: .*script"),
        ({"dataset_path": "script", "dataset_kwargs": {"trust_remote_code": True}}, "cannot be loaded: "),
        ({"use_prompt": "promptsource:*"}, r"words\.yaml: use_prompt: promptsource:\* runs Python code"),
        ({"generation_kwargs": {"custom_generate": "./evil"}}, "generation_kwargs: custom_generate runs Python code"),
        ({"generation_kwargs": {"trust_remote_code": True}}, "generation_kwargs: trust_remote_code runs Python code"),
        ({"unsafe_code": True}, "words: runs code that the model writes; allow_code_execution=true"),
    ],
)
def test_data_and_options_that_run_code_are_refused(tmp_path, mark, changes, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("script.py", "script/script.py", "evil/custom_generate/generate.py"):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        Path(place).write_text(code(mark))
    write_task(tmp_path / "task", **changes)
    refused(tmp_path / "task", message)
    assert not mark.exists()


def test_a_task_that_includes_one_of_lm_eval_keeps_its_functions(tmp_path, model):
    stock = tasks_folder() / "hellaswag" / "hellaswag.yaml"
    row = {"activity_label": "A", "ctx_a": "he", "ctx_b": "runs", "endings": ["a", "b", "c", "d"], "label": "2"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    part = {
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"validation": "rows.jsonl"}},
    }
    (tmp_path / "part").write_text(yaml.safe_dump(part | {"training_split": None, "include": str(stock)}))
    (tmp_path / "mine.yaml").write_text("include: part\ntask: mine\ndescription: Mine.\n")
    [task] = read_place(str(tmp_path)).tasks
    content = task.prepare(tmp_path)
    assert content["include"] == [str(stock)] and content["description"] == "Mine." and "process_docs" not in content
    assert evaluate(model, tasks=str(tmp_path))["mine"]["n"] == 1


def test_unsafe_code_of_an_included_task_cannot_be_talked_away(tmp_path):
    stock = tasks_folder() / "humaneval" / "humaneval.yaml"
    (tmp_path / "mine.yaml").write_text(f"include: {stock}\ntask: mine\nunsafe_code: false\n")
    refused(tmp_path, "^mine: runs code that the model writes")


def test_the_order_of_a_mapping_of_choices_stays(tmp_path, model):
    rows = [one | {"answer": 0} for one in items(4)]
    listed = write_task(tmp_path / "listed", rows=rows, doc_to_choice=["are old", "end"])
    mapped = write_task(tmp_path / "mapped", rows=rows, doc_to_choice={"z": "are old", "a": "end"})
    text = mapped.read_text()
    mapped.write_text(text.replace("  a: end\n  z: are old\n", "  z: are old\n  a: end\n"))
    assert mapped.read_text() != text
    one, other = (evaluate(model, tasks=str(path))["words"] for path in (listed, mapped))
    assert one["metrics"] == other["metrics"] and one["items"] == other["items"]
