"""What an output was made from: back along the manifests to the sources, each known by the content that was read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from data_common.files.atomic import manifest_path
from data_common.files.fingerprint import fingerprint
from data_common.files.manifest import read_manifest
from data_common.files.replacing import places_of
from data_common.messages.errors import UserError
from data_common.replay.record import DOWNLOADS, inputs_of, load

Key = tuple[str, str | None]  # of a link: name and digest


class Link(NamedTuple):
    """A file or folder, or an id of the hub, that something was made from; or the output itself."""

    name: str  # path or id, as it was recorded
    content: Mapping[str, Any]  # its fingerprint, as it was recorded
    record: Mapping[str, Any] | None = None  # its manifest; None where there is none of this content
    role: str = ""  # input of the call that read it, e.g. "data"
    note: str = ""
    has_rows: bool = False  # whether the rows of the output come from it, rather than a model or an example for them

    @property
    def is_source(self) -> bool:
        """Whether it was made from nothing that is known."""
        return self.record is None or (self.record["stage"] == DOWNLOADS and not self.record["inputs"])


def chain(path: str) -> list[Link]:
    """All that the output at `path` was made from, each behind what it was made from itself; the output last.

    Raises: UserError where it has no manifest, or was changed since that was written.
    """
    manifest, record = load(path, "--card")
    made = manifest.parent / manifest.name.removesuffix(".manifest.json")
    if made.exists() and read_manifest(made) is None:
        raise UserError(f"--card {path}: it was changed since its manifest was written")
    walk = _Walk()
    walk.follow(made, last := Link(record["output"]["path"], record["output"], record))
    of_rows = walk.data_of(_key(last))
    return [link._replace(has_rows=key in of_rows) for key, link in walk.links.items()]


class _Walk:
    """Every content is followed once."""

    def __init__(self):
        self.links: dict[Key, Link] = {}
        self.data: dict[Key, set[Key]] = {}  # of each the inputs whose rows it holds
        self.whole: dict[Path, bool] = {}  # folders that are as their manifests say

    def follow(self, made: Path, link: Link) -> None:
        """Add what `link`, which lies at `made`, was made from; then itself."""
        for role, one in inputs_of(link.record) if link.record else ():
            place, record, note = self.maker(one, link.record["output"]["path"], made)
            content = record["output"] if record else one
            before = Link(content.get("path") or content["id"], content, record, role, note)
            if _key(before) not in self.links:
                self.follow(place, before)
            if role == "data":
                self.data.setdefault(_key(link), set()).add(_key(before))
        self.links.setdefault(_key(link), link)

    def data_of(self, key: Key) -> set[Key]:
        """It, and all that its rows come from."""
        return {key}.union(*(self.data_of(before) for before in self.data.get(key, ())))

    def maker(self, one: Mapping[str, Any], output: str, made: Path) -> tuple[Path, dict[str, Any] | None, str]:
        """Where an input of what lies at `made` is now, the manifest of what made it, and what is to be said of it.

        output: the path that was recorded of what lies at `made`.
        """
        if "id" in one:
            return made, None, "an id of the hub"
        note = ""
        for place in map(Path, places_of(one["path"], output, made)):
            if (record := _record(place)) is not None:
                if _same(record["output"], one):
                    return place, record, ""
                note = "changed or made again since it was read"
            if (record := _record(place.parent)) is not None and self._is_shard(place, one):
                return place.parent, record, ""
        return made, None, note

    def _is_shard(self, place: Path, one: Mapping[str, Any]) -> bool:
        folder = place.parent
        if folder not in self.whole:
            self.whole[folder] = read_manifest(folder) is not None
        return self.whole[folder] and place.is_file() and _same(fingerprint(place), one)


def _key(link: Link) -> Key:
    return link.name, link.content.get("xxh3")


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (one["bytes"], one["xxh3"]) == (other["bytes"], other["xxh3"])


def _record(made: Path) -> dict[str, Any] | None:
    """The manifest of what lies there; none where it is another's, or broken."""
    try:
        return load(str(manifest_path(made)))[1]
    except UserError:
        return None
