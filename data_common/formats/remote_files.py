"""Files of rows in a store that fsspec knows: s3://, gs://, hf://, http(s)://."""

import glob

from data_common.formats.local_files import SHEETS, of_one_kind
from data_common.formats.opening import suffix_of
from data_common.formats.stores import PACKAGES, file_system

STAMPS = ("size", "ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "updated", "blob_id")


def is_remote(path: str) -> bool:
    """Whether this names files in a store; a page on the web is none."""
    scheme, separator, _ = path.partition("://")
    named = scheme not in ("http", "https") or bool(suffix_of(path)) or path.lower().endswith(SHEETS)
    return bool(separator) and scheme in PACKAGES and named


def remote_files(path: str) -> tuple[list[str], list[dict[str, str]]]:
    """-> (the file, or those of a folder or glob, sorted by name; by what each is known to be the same later on).

    Raises: UserError where there is no file of a known kind, or there are several kinds.
    """
    files, place = file_system(path)
    if suffix_of(path) and not glob.has_magic(path):
        found = [path]
    else:
        inner = files.glob(place) if glob.has_magic(place) else files.ls(place, detail=False)
        found = [files.unstrip_protocol(one) for one in inner]
    names = of_one_kind(path, found)
    stamps = [files.info(name) for name in names]
    return names, [{key: str(one[key]) for key in STAMPS if one.get(key) is not None} for one in stamps]
