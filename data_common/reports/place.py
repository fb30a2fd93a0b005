"""Where the page of a stage that copies rows lies; without what pages are made with, as most calls make none."""

from pathlib import Path

from data_common.files.manifest import read_manifest


def page_of(output: str, wanted: bool) -> Path | None:
    """`OUTPUT.report.html`, where it is wanted; else None, and that of the call that made OUTPUT is removed."""
    page = Path(f"{output}.report.html")
    if wanted:
        return page
    if page.is_file() and (read_manifest(output) or {}).get("config", {}).get("report"):
        page.unlink()
    return None
