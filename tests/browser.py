"""A page in a headless Chromium, asked over its debugging pipe: what it logs, and what its scripts see."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAM = next((name for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name)), None)
needs_browser = pytest.mark.skipif(PROGRAM is None, reason="no chromium (Debian: apt-get install chromium)")
OPTIONS = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --remote-debugging-pipe --no-first-run"
COMPLAINTS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Network.requestWillBeSent")


class Tab:
    """A page that is loaded. complaints: what it logged, and every address it asked for but its own."""

    def __init__(self, requests: Any, answers: Any):
        self.requests, self.answers, self.number, self.session = requests, answers, 0, {}
        self.complaints: list[Any] = []

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of the DevTools protocol."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters} | self.session
        self.requests.write(json.dumps(message).encode() + b"\0")
        self.requests.flush()
        return self._until(lambda one: one.get("id") == self.number)["result"]

    def load(self, path: Path, scripts: bool) -> None:
        """Open a file, until all of it is there. scripts: whether those of the page may run."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = {"sessionId": self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for room in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{room}.enable")
        self.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.ask("Page.navigate", url=path.resolve().as_uri())
        self._until(lambda one: one.get("method") == "Page.loadEventFired")
        own = path.resolve().as_uri()
        self.complaints = [one for one in self.complaints if one.get("request", {}).get("url") != own]

    def value(self, script: str) -> Any:
        """What a JavaScript expression gives."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def _until(self, wanted: Any) -> dict[str, Any]:
        while True:
            message = json.loads(self._message())
            if message.get("method") in COMPLAINTS:
                self.complaints.append(message["params"])
            if wanted(message):
                return message

    def _message(self) -> bytes:
        content = b""
        while not content.endswith(b"\0"):
            byte = self.answers.read1(1)
            assert byte, "the browser has ended"
            content += byte
        return content[:-1]


@contextlib.contextmanager
def opened(path: Path, scripts: bool = True) -> Iterator[Tab]:
    """The page at `path` in a browser of its own."""
    (read, requests), (answers, write) = os.pipe(), os.pipe()
    profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    words = f"exec {PROGRAM} {OPTIONS} --user-data-dir={profile.name} 3<&{read} 4>&{write}"
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with profile, subprocess.Popen(["bash", "-c", words], pass_fds=(read, write), **quiet) as browser:
        os.close(read)
        os.close(write)
        with open(requests, "wb") as out, open(answers, "rb") as back:
            tab = Tab(out, back)
            tab.load(path, scripts)
            yield tab
            tab.session = {}
            tab.ask("Browser.close")
        browser.wait(30)
