"""Get a data set or a model onto the disk, from the Hugging Face hub or made here without a download:

--content dataset --id python-stdlib --save-dir FOLDER         a corpus of the texts that this Python carries
--content model --id tiny --data IN.jsonl --save-dir FOLDER    0.4 M random parameters, a tokenizer from IN.jsonl
"""

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from common.errors import UserError, exit_code
from common.files import partial_path, replace_folder

BUILT_IN = {"python-stdlib": "dataset", "tiny": "model"}  # id -> its content
OPTIONS = {"python-stdlib": (), "tiny": ("data",), "model": (), "dataset": ("data_name", "split_name", "sample_size")}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def main(words: list[str] | None = None) -> int:
    """Run the command; returns the exit code (0, 2 for what the user can cure)."""
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--content", required=True, choices=("dataset", "model"))
    parser.add_argument("--id", required=True, help="id on the hub, or python-stdlib, or tiny")
    parser.add_argument("--save-dir", required=True, help="a file NAME.jsonl for a data set of the hub, else a folder")
    parser.add_argument("--data-name", help="configuration of a data set that has several")
    parser.add_argument("--split-name", help="split of a data set (default: train)")
    parser.add_argument("--sample-size", type=int, help="only the first so many rows (default: all)")
    parser.add_argument("--data", help="the corpus that the tokenizer of tiny is learned from")
    return exit_code(lambda: fetch(parser.parse_args(words)))


def fetch(asked: argparse.Namespace) -> None:
    """Make or download what is asked for, unless it is there already. Raises: UserError for what the user can cure."""
    from common.manifest import Run  # late, as all imports that --help can do without

    source = asked.id if BUILT_IN.get(asked.id) == asked.content else asked.content
    given = {key: getattr(asked, key) for key in sum(OPTIONS.values(), ()) if getattr(asked, key) is not None}
    for key in given.keys() - OPTIONS[source]:
        raise UserError(f"--{key.replace('_', '-')} does not go with --content {asked.content} --id {asked.id}")
    if source == "tiny" and not asked.data:
        raise UserError("--id tiny needs --data CORPUS.jsonl, the corpus that its tokenizer is learned from")
    inputs = {"data": given.pop("data")} if source == "tiny" else {}
    target = Path(asked.save_dir).resolve()
    run = Run("utils", source, {"id": asked.id} | given, inputs, str(target))
    if run.is_done():
        return
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise UserError(f"{target} holds something else: delete it, or choose another --save-dir")
    run.finish(**_write(source, asked, target))
    print(f"wrote {target} in {run.seconds():.1f} s")


def _write(source: str, asked: argparse.Namespace, target: Path) -> dict[str, Any]:
    if source == "python-stdlib":
        from common.python_stdlib import build

        return _write_folder(target, build)
    if source == "tiny":
        from common import tiny_model

        return _write_folder(target, lambda folder: tiny_model.build(folder, asked.data))
    from common import hub

    if source == "model":
        return hub.download_model(asked.id, target)
    return hub.download_dataset(asked.id, str(target), asked.data_name, asked.split_name, asked.sample_size)


def _write_folder(folder: Path, fill: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Let `fill` write into a folder beside `folder` that is renamed when complete, else removed."""
    partial = partial_path(folder)
    try:
        partial.mkdir(parents=True, exist_ok=True)
        counts = fill(partial)
        replace_folder(partial, folder)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return counts


if __name__ == "__main__":
    sys.exit(main())
