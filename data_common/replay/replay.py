"""Make an output again from its manifest, in a folder of its own, and say whether it is the same."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from data_common.files.manifest import read_manifest
from data_common.files.temporary import temporary_folder
from data_common.messages.errors import UserError
from data_common.messages.visible import visible
from data_common.replay.changes import changes
from data_common.replay.command import code_keys, command, environment_of
from data_common.replay.comparison import compare
from data_common.replay.record import load, working_folder

DIFFERENT = 1  # the exit code


def replay(path: str, save_dir: str | None, allow_code: bool = False, dry_run: bool = False) -> None:
    """Make the output of the manifest at `path` again and compare.

    save_dir: a new or empty folder for it, which stays; None: a temporary one, which stays where the output differs.
    allow_code: whether code of other people may run where it did then. dry_run: only look at the inputs, and tell what
    is not as it was.
    Raises: UserError where inputs are missing or changed, or the call cannot be made; SystemExit with DIFFERENT where
    the output differs, with the code of the call where that fails.
    """
    manifest, record = load(path)
    if (
        save_dir is not None
        and os.path.lexists(save_dir)
        and not (os.path.isdir(save_dir) and not os.listdir(save_dir))
    ):
        raise UserError(f"--save-dir {save_dir} holds something: name a new folder")
    folder = working_folder(manifest, record)
    if (keys := code_keys(record)) and not allow_code:
        raise UserError(f"the call let code of other people run ({', '.join(keys)}): --allow-code lets it run again")
    for line in changes(record):
        print(f"note: {visible(line)}")
    with temporary_folder("replay") as scratch:
        out = Path(os.path.abspath(save_dir)) if save_dir else scratch / "out"
        words, again = command(record, folder, out, scratch)
        print(f"in {visible(folder)}: {visible(' '.join(words[4:]))}", flush=True)
        if dry_run:
            return
        out.mkdir(parents=True, exist_ok=True)
        code = subprocess.call(words, cwd=folder, env=environment_of(record, scratch, sys.executable))
        if code or (facts := read_manifest(again)) is None:
            raise SystemExit(code or DIFFERENT)
        original = manifest.parent / manifest.name.removesuffix(".manifest.json")
        equal, differences = compare(record, original, again, facts)
        if differences and not save_dir:
            kept = Path(tempfile.mkdtemp(prefix="delt-replayed-"))
            shutil.move(out, kept)
            again = kept / again.relative_to(scratch)
    if not differences:
        print(f"equal: {visible(equal)}" + (f"; it was made in {visible(out)}" if save_dir else ""))
        return
    for line in differences:
        print(f"different: {visible(line)}")
    print(f"what was made: {visible(again)}", flush=True)
    raise SystemExit(DIFFERENT)
