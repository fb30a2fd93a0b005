"""Runs a command under strace and tells, call by call, which files it wrote, brought to the disk and renamed.

strace is a Debian package; where it is absent, or tracing is refused, what needs it is skipped.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CALLS = "openat,creat,write,pwrite64,writev,ftruncate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir"
FAULTY = "write,pwrite64,writev,ftruncate,fallocate,copy_file_range,sendfile,fsync,fdatasync,"
FAULTY += "mkdir,link,linkat,symlink,rename,renameat,renameat2,unlink,unlinkat,rmdir"
OF_NAMES = ("rename", "unlink", "rmdir", "mkdir", "link", "symlink")
LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += +(-?\d+)")
OF_DESCRIPTOR = re.compile(r"^\d+<([^>]*?)(?:\(deleted\))?>")
NAMES = re.compile(r'"((?:[^"\\]|\\.)*)"')
ABSENT = "strace is not there, or not allowed to trace"


class Event(NamedTuple):
    """A system call that went well. name: write, truncate, fsync, unlink or rename. other: the new name."""

    name: str
    path: Path
    other: Path | None = None
    exchanged: bool = False


def can_trace() -> bool:
    """Whether strace is there and may be used."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True).returncode == 0


def trace(command: list[str], log: Path, **options) -> tuple[subprocess.CompletedProcess, list[Event]]:
    """Run a command; what it and all its processes did, in order."""
    words = ["strace", "-f", "-qq", "-y", "-s", "4096", "-e", f"trace={CALLS}", "-e", "signal=none", "-o", str(log)]
    done = subprocess.run([*words, *command], capture_output=True, text=True, **options)
    return done, list(_events(log.read_text(errors="replace")))


class Place(NamedTuple):
    """One system call of a command, as strace counts them: the n-th of its name in its process or thread."""

    call: str
    number: int
    path: Path


def places(command: list[str], log: Path, folder: Path, **options) -> list[Place]:
    """The calls of a command, among `FAULTY`, that have to do with a folder or what lies below it."""
    words = ["strace", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "4096", "-e", f"trace={FAULTY}", "-e", "signal=none"]
    done = subprocess.run([*words, "-o", str(log), *command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    counts: dict[tuple[str, str], int] = {}
    found = {}
    for line in log.read_text(errors="replace").split("\n"):
        if not (begin := re.match(r"(\d+) +(\w+)\((.*)", line)):
            continue
        process, call, rest = begin.groups()
        counts[process, call] = counts.get((process, call), 0) + 1
        described = OF_DESCRIPTOR.match(rest)
        names = NAMES.findall(rest) if call.startswith(OF_NAMES) else [described[1]] if described else []
        path = Path(names[0]) if names else Path("/")
        if call.endswith("at") and described:
            path = Path(described[1], path)
        if ":[" not in path.name and (folder / path).is_relative_to(folder):  # no pipe
            found[call, counts[process, call]] = Place(call, counts[process, call], folder / path)
    return list(found.values())


def fail(command: list[str], place: Place, fault: str, **options) -> subprocess.CompletedProcess:
    """Run a command in which one call fails. fault: error=ENOSPC, error=EIO or signal=KILL."""
    inject = f"inject={place.call}:{fault}:when={place.number}"
    words = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", f"trace={place.call}", "-e", inject]
    return subprocess.run([*words, *command], capture_output=True, text=True, **options)


def _events(log: str) -> Iterator[Event]:
    for call, arguments in _calls(log):
        named = call.startswith(("open", "creat", "rename", "unlink"))
        names = [Path(name) for name in NAMES.findall(arguments)] if named else []
        if call in ("openat", "creat") and ("O_TRUNC" in arguments or "O_CREAT" in arguments or call == "creat"):
            yield Event("truncate", names[0])
        elif call.startswith("rename"):
            yield Event("rename", *names[:2], "RENAME_EXCHANGE" in arguments)
        elif call == "unlink" and names:
            yield Event("unlink", names[0])
        elif call == "unlinkat" and "AT_REMOVEDIR" not in arguments:
            yield Event("unlink", Path(OF_DESCRIPTOR.match(arguments)[1] if arguments[0] != "A" else "/", names[0]))
        elif not named and (found := OF_DESCRIPTOR.match(arguments)):
            kinds = {"fsync": "fsync", "fdatasync": "fsync", "ftruncate": "truncate"}
            yield Event(kinds.get(call, "write"), Path(found[1]))


def _calls(log: str) -> Iterator[tuple[str, str]]:
    """(name, arguments) of the calls that went well; those that others interrupted in the log are put together."""
    begun: dict[str, str] = {}
    for line in log.split("\n"):
        if line.endswith("<unfinished ...>"):
            begun[line.split()[0]] = line.removesuffix("<unfinished ...>")
            continue
        if "resumed>" in line:
            process = line.split()[0]
            line = begun.pop(process, process) + line.partition("resumed>")[2]
        if (found := LINE.match(line)) and int(found[4]) >= 0:
            yield found[2], found[3]
