"""What a run is made with, as its manifest tells it: versions, git commit, processor, processes."""

import contextlib
import os
import platform
import subprocess
import sys
from importlib import metadata
from typing import Any

from data_common.messages.commands import IN_REPOSITORY, ROOT
from data_common.parallel import distributed

PACKAGES = {  # module -> package: those whose version may change a result
    **{name: name for name in ("numpy", "msgspec", "torch", "transformers", "tokenizers", "kenlm", "zstandard")},
    **{"lm_eval": "lm_eval", "sklearn": "scikit-learn", "regex": "regex", "datasets": "datasets"},
}


def versions() -> dict[str, str]:
    """Python, this package where it is installed, and those libraries that this run has in fact imported."""
    own = {} if IN_REPOSITORY else {"delt": installed("delt")}
    return (
        {"python": sys.version.split()[0]} | own | {name: installed(name) for name in PACKAGES if name in sys.modules}
    )


def installed(module: str) -> str | None:
    """The version of the package that brings a module; None where it is not installed. Nothing is imported."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(PACKAGES.get(module, module))
    return getattr(sys.modules.get(module), "__version__", None)


def git_commit() -> str | None:
    """Of the repository that this code is run from; None outside one."""
    if not (ROOT / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def machine() -> dict[str, Any]:
    """Processor, processes, and where torch computes: its threads, and the GPU that is used."""
    found: dict[str, Any] = {"processor": _processor(), "processes": distributed.size()}
    if torch := sys.modules.get("torch"):
        found["threads"] = torch.get_num_threads()
        if torch.cuda.is_initialized():
            found["gpu"] = torch.cuda.get_device_name()
    return found


def _processor() -> str:
    """Its name, as Linux has it, else its architecture."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        names = (line.partition(":")[2].strip() for line in file if line.startswith("model name"))
        return next(names, platform.machine())
    return platform.machine()


def working_folder() -> str | None:
    """The folder that relative paths of a call begin in; None where it was removed."""
    with contextlib.suppress(OSError):
        return os.getcwd()
    return None
