import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from data_common.calls.cli import main
from data_common.hub.network import hub_token
from data_common.messages.errors import UserError
from data_common.messages.redaction import protect_secrets, redact
from data_selection.entry import STAGE as SELECTION

REPOSITORY = Path(__file__).parents[2]
SECRET = "hf_AbCdEfGhIjKlMnOp"
# Everything that can print: a message, a warning, a log line, a thread, an error nobody expects, and what caused it.
PROGRAM = """
import logging, os, threading, warnings
from data_common.messages.errors import exit_code
def work():
    token = os.environ["HF_TOKEN"]
    print("printed", token, os.environ["SOME_API_KEY"])
    warnings.warn("warned " + token)
    logging.getLogger("some.library").warning("logged %s", token)
    thread = threading.Thread(target=lambda: [][token])
    thread.start()
    thread.join()
    try:
        raise ValueError("Illegal header value " + repr(("Bearer " + token).encode()))
    except ValueError as error:
        raise RuntimeError("failed with " + token) from error
exit_code(work)
"""


@pytest.mark.parametrize(
    "token", [SECRET, f" {SECRET}\n", "hf_AbCd EfGhIjKlMnOp", "hf_AbCdEf\r\nGhIjKl", "hf_AbCdEfGhé"]
)
def test_no_token_is_printed_by_anything(token):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "HF_TOKEN": token, "SOME_API_KEY": "sk-0123456789"}
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    printed = run.stdout + run.stderr
    assert run.returncode == 1 and run.stdout.startswith("printed ***")
    for where in ("warned ***", "logged ***", "TypeError", "RuntimeError: failed with ***", "Illegal header value b'B"):
        assert where in run.stderr
    for secret in (*token.split(), "sk-0123456789"):
        assert secret not in printed and ascii(secret)[1:-1] not in printed


@pytest.mark.parametrize(
    ("value", "token"),
    [("", False), ("  \n", False), (SECRET, SECRET), (f"{SECRET}\n", SECRET), (f"\r\n {SECRET}\t", SECRET)],
)
def test_the_token_is_stripped(value, token, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", value)
    assert hub_token() == token


@pytest.mark.parametrize("value", ["hf_Ab CdEfGh", "hf_AbCd\nEfGh", "hf_AbCd\rEfGh", "hf_AbCdé", "hf_AbCd\x7f"])
def test_what_is_no_token_is_refused_and_not_shown(value, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", value)
    with pytest.raises(UserError, match=r"^HF_TOKEN holds blanks or other characters .* unset it$") as refused:
        hub_token()
    assert not any(part in str(refused.value) for part in value.split())


def test_libraries_read_a_stripped_token(monkeypatch):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY"):
        monkeypatch.setenv(name, f"{SECRET}\n")
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    protect_secrets()
    assert {os.environ[name] for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")} == {SECRET}


@pytest.mark.parametrize(
    ("name", "value", "text", "shown"),
    [
        ("HF_TOKEN", SECRET, f"url?token={SECRET}&x=1", "url?token=***&x=1"),
        ("HF_TOKEN", "hf_Ab/Cd+Ef", "url?token=hf_Ab%2FCd%2BEf", "url?token=***"),
        ("HF_TOKEN", "hf_AbCdEf", "hf_AbCdE is another", "hf_AbCdE is another"),
        ("WANDB_API_KEY", "0123456789abcdef", "key 0123456789abcdef", "key ***"),
        ("AWS_SECRET_ACCESS_KEY", "0123456789abcdef", "key 0123456789abcdef", "key ***"),
        ("https_proxy", "http://me:pass-word@proxy:80", "cannot connect to http://me:pass-word@proxy:80",
         "cannot connect to http://me:***@proxy:80"),
        ("GITHUB_PAT", "ghp_0123456789", "key ghp_0123456789", "key ***"),
        ("DB_PASSWD", "correct-horse", "as correct-horse", "as ***"),
        ("TOKENIZERS_PARALLELISM", "a false friend", "a false friend", "a false friend"),
        ("MY_PATH", "a/false/friend", "a/false/friend", "a/false/friend"),
        ("SHORT_TOKEN", "1", "1 row", "1 row"),
    ],
)  # fmt: skip
def test_secrets_of_the_environment_are_hidden(name, value, text, shown, monkeypatch):
    monkeypatch.setenv(name, value)
    assert redact(text) == shown


def test_a_dry_run_is_yaml_whatever_the_secrets_are(tmp_path, monkeypatch, capsys):
    """A secret that is the name of a key is known to everybody; one that is a value leaves `***`, as a text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONE_TOKEN", "score_field")
    monkeypatch.setenv("OTHER_TOKEN", SECRET)
    assert main(SELECTION, ["in.jsonl", "o.jsonl", "top-r", f"group_field={SECRET}", "--dry-run=keys"]) == 0
    shown = capsys.readouterr().out
    assert SECRET not in shown
    keys = yaml.safe_load(shown)
    assert keys["score_field"] == "score" and keys["group_field"] == "***"
