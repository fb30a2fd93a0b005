"""Stores of files that fsspec knows, each by its optional package."""

from typing import Any

from data_common.hub.network import hub_token
from data_common.messages.errors import UserError

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub", "https": "aiohttp", "http": "aiohttp"}


def file_system(path: str) -> tuple[Any, str]:
    """-> (the file system of fsspec, the path in it). Raises: UserError where the package of the store is missing."""
    import fsspec  # slow to import

    scheme = path.partition("://")[0]
    try:
        return fsspec.core.url_to_fs(path, **({"token": hub_token()} if scheme == "hf" else {}))
    except ImportError:
        package = PACKAGES[scheme]
        raise UserError(f"{path}: {scheme}:// needs the package {package} (pip install {package})") from None
