"""Get a data set, a model or a whole repository onto the disk: from the Hugging Face hub, from files that are here,
or made without a download; or make an output of any stage again, or say what it was made from:

--content dataset --id HUB_ID --save-dir FILE.jsonl            a split of a data set, streamed; .jsonl.zst compresses
--content dataset --id PATH --save-dir FILE.jsonl              .parquet, .arrow, .feather, .csv, .tsv, .json, .jsonl:
                                                               file, folder, glob, here or s3://, gs://, hf://,
                                                               https://; FILE.parquet makes a table
--content model --id HUB_ID --save-dir FOLDER                  safetensors weights, configuration, tokenizer
--content repo --id HUB_ID --save-dir FOLDER                   every file of a repository
--content dataset --id python-stdlib --save-dir FOLDER         a corpus of the texts that this Python carries
--content model --id tiny --data IN.jsonl --save-dir FOLDER    0.4 M random parameters, a tokenizer from IN.jsonl
--replay OUT.manifest.json [--save-dir FOLDER]                 an output again, compared: exit code 0 equal, 1 different
--card OUT [--licence SOURCE=LICENCE] [--save-dir FILE.md]     OUT.card.md, a data card, from the manifests of its chain

An interrupted download goes on where it was when the command is given again. HF_TOKEN opens gated repositories.
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from data_common.files.atomic import clear_partials, draft_of
from data_common.files.durable import lock_file
from data_common.messages.commands import UTILS
from data_common.messages.errors import UserError, exit_code
from data_common.messages.terminal import detach_input, say
from data_common.messages.visible import visible

BUILT_IN = {"python-stdlib": "dataset", "tiny": "model"}  # id -> its content
LOCAL = "and a model that is here needs no download: name its folder in the call that reads it"
USAGE = f"{UTILS} --content dataset|model|repo --id ID --save-dir PATH, or --replay OUT.manifest.json, or --card OUT"
VERSIONS = {2: "values of .json are as the file spells them; digits of .csv too, and types hold for a whole column"}
OPTIONS = {
    "python-stdlib": (),
    "tiny": ("data",),
    "model": ("revision", "allow_pickle"),
    "repo": ("revision",),
    "dataset": ("data_name", "split_name", "sample_size", "shuffle_seed", "revision", "delimiter"),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def main(words: list[str] | None = None) -> int:
    """Run the command; returns the exit code (0, 2 for what the user can cure)."""
    if words is None:
        words = sys.argv[1:]
        detach_input(words)
    return exit_code(lambda: _dispatch(parser().parse_args(words)))


def _dispatch(asked: argparse.Namespace) -> None:
    """Raises: UserError for options that are missing, or do not go together."""
    given = [name for name, value in vars(asked).items() if value not in (None, False)]
    if asked.card is not None:
        _card(asked, given)
        return
    if asked.licence is not None:
        raise UserError("--licence goes with --card")
    if asked.replay is None:
        missing = [f"--{name.replace('_', '-')}" for name in ("content", "id", "save_dir") if name not in given]
        if missing:
            raise UserError(f"the following arguments are required: {', '.join(missing)}; usage: {USAGE}")
        if asked.allow_code:
            raise UserError("--allow-code goes with --replay")
        fetch(asked)
        return
    if others := [name for name in given if name not in ("replay", "save_dir", "allow_code", "dry_run")]:
        raise UserError(
            f"--{others[0].replace('_', '-')} does not go with --replay: the manifest has what was asked for"
        )
    from data_common.replay.replay import replay  # late, as all imports that --help can do without

    replay(asked.replay, asked.save_dir, asked.allow_code, asked.dry_run)


def _card(asked: argparse.Namespace, given: list[str]) -> None:
    """Raises: UserError for options of something else, or a card that cannot be made."""
    if others := [name for name in given if name not in ("card", "licence", "save_dir", "dry_run")]:
        raise UserError(f"--{others[0].replace('_', '-')} does not go with --card")
    from data_common.card.page import ALL, write_card

    pairs = [one.rpartition("=") for one in asked.licence or ()]
    if empty := [name for name, _, licence in pairs if not licence]:
        raise UserError(f"--licence {empty[0]}=: it is empty (an unset variable?)")
    if asked.dry_run:
        say(visible(f"# card of {asked.card}"))
        return
    written = write_card(asked.card, asked.save_dir, {name or ALL: licence for name, _, licence in pairs})
    print(f"wrote {visible(written)}")


def parser() -> argparse.ArgumentParser:
    """The options of the command. It raises UserError for words that it does not know."""
    options = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = _Parser(description=__doc__, **options)
    parser.add_argument("--content", choices=("dataset", "model", "repo"))
    parser.add_argument("--id", help="id on the hub, or a path, or python-stdlib, or tiny")
    parser.add_argument("--save-dir", help="a file NAME.jsonl or NAME.parquet for rows, else a folder")
    parser.add_argument("--data-name", help="configuration of a data set that has several")
    parser.add_argument("--split-name", help="split of a data set (default: train)")
    parser.add_argument("--sample-size", type=int, help="only the first so many rows (default: all)")
    parser.add_argument("--shuffle-seed", type=int, help="shuffle the rows, within a buffer of 10,000")
    parser.add_argument("--delimiter", help="of .csv and .tsv: one character, or tab (default: comma, in .tsv tab)")
    parser.add_argument("--revision", help="branch, tag or commit on the hub (default: main)")
    parser.add_argument("--allow-pickle", action="store_true", default=None, help="take weights that can run code")
    parser.add_argument("--replay", metavar="MANIFEST", help="make the output of this manifest again, and compare")
    parser.add_argument(
        "--card", metavar="OUT", help="write a data card of this output, from the manifests of its chain"
    )
    parser.add_argument("--licence", action="append", metavar="SOURCE=LICENCE", help="of a source of --card, or of all")
    parser.add_argument("--allow-code", action="store_true", help="of --replay: code of others runs where it did then")
    parser.add_argument(
        "--dry-run", action="store_true", help="check the options (of --replay: the inputs), do nothing"
    )
    parser.add_argument("--data", help="the corpus that the tokenizer of tiny is learned from")
    return parser


def _check_options(asked: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """-> (what to get: a key of OPTIONS, the options given for it). Raises: UserError for those of something else."""
    source = asked.id if BUILT_IN.get(asked.id) == asked.content else asked.content
    options = {key: getattr(asked, key) for keys in OPTIONS.values() for key in keys}
    given = {key: value for key, value in options.items() if value is not None}
    for key in given.keys() - OPTIONS[source]:
        raise UserError(f"--{key.replace('_', '-')} does not go with --content {asked.content} --id {asked.id}")
    if source == "tiny" and not asked.data:
        raise UserError("--id tiny needs --data CORPUS.jsonl, the corpus that its tokenizer is learned from")
    return source, given


def _check_id(name: str, source: str) -> None:
    """Raises UserError for what is no id of the hub, and no data of this machine or of a store either."""
    from data_common.formats.remote_files import is_remote

    if "://" in name and not (source == "dataset" and is_remote(name)):
        parts = name.partition("huggingface.co/")[2].removeprefix("datasets/").split("/")[:2]
        raise UserError(f"--id {name}: an id of the hub is owner/name" + (f": {'/'.join(parts)}" if parts[0] else ""))
    if source in ("model", "repo") and name.startswith((".", "/", "~")):
        raise UserError(f"--id {name} is a path, {LOCAL}")


def fetch(asked: argparse.Namespace) -> None:
    """Make or download what is asked for, unless it is there already. Raises: UserError for what the user can cure."""
    from data_common.files.manifest import Run
    from data_common.formats.local_files import is_local, local_files  # late, as all imports that --help can do without
    from data_common.formats.opening import PARQUET, format_of
    from data_common.formats.remote_files import is_remote
    from data_common.rows.shards import check_suffix

    source, given = _check_options(asked)
    _check_id(asked.id, source)
    if source == "dataset" and not asked.save_dir.endswith(PARQUET):
        check_suffix(asked.save_dir, "--save-dir")
    if asked.dry_run:
        say(visible(f"# {asked.content} {asked.id} -> {asked.save_dir} {given or ''}"))
        return
    inputs: dict[str, Any] = {"data": given.pop("data")} if source == "tiny" else {}
    versions = {}
    if source == "dataset" and is_local(asked.id) and not is_remote(asked.id):
        files = local_files(asked.id)
        inputs["data"] = list(map(str, files))
        if format_of(str(files[0])) in ("json", "csv"):
            versions = {source: VERSIONS}
    target = Path(asked.save_dir).resolve()
    run = Run("utils", source, {"id": asked.id} | given, inputs, str(target), versions=versions)
    if run.is_done():
        return
    if not run.outdated and (target.is_file() or (target.is_dir() and any(target.iterdir()))):
        raise UserError(f"{target} holds something else: delete it, or choose another --save-dir")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = target.with_name(f".{target.name}.lock")
        with lock_file(lock, f"another call is writing {target}"), _drafted(source, asked, target) as (draft, facts):
            run.check_inputs()
            run.finish(draft, **facts)
            clear_partials(target)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}") from error
    print(f"wrote {visible(target)} in {run.seconds():.1f} s")


@contextlib.contextmanager
def _drafted(source: str, asked: argparse.Namespace, target: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """What is asked for, complete, beside the place where it shall be; facts for its manifest."""
    if source == "python-stdlib":
        from data_common.embedded.python_stdlib import build

        with draft_of(target, folder=True) as draft:
            yield draft, build(draft)
    elif source == "tiny":
        from data_common.embedded import tiny_model

        with draft_of(target, folder=True) as draft:
            yield draft, tiny_model.build(draft, asked.data)
    elif source == "dataset":
        from data_common.hub.datasets_source import Wanted, download_dataset

        which = (asked.data_name, asked.split_name, asked.revision, asked.sample_size, asked.shuffle_seed)
        yield download_dataset(Wanted(asked.id, *which, asked.delimiter), str(target))
    else:
        from data_common.hub import snapshots

        try:
            if source == "repo":
                found = snapshots.download_repository(asked.id, target, asked.revision)
            else:
                found = snapshots.download_model(asked.id, target, asked.revision, bool(asked.allow_pickle))
        except UserError as error:
            raise UserError(
                f"{error} ({asked.id} is a folder here, {LOCAL})" if Path(asked.id).is_dir() else error
            ) from error
        yield found


if __name__ == "__main__":
    sys.exit(main())
