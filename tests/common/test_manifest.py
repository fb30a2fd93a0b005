"""Facts of a manifest."""

from common.manifest import fingerprint, same_content


def test_files_that_match_a_glob_are_known_by_their_content(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in "ab":
            (tmp_path / folder / f"{name}.jsonl").write_text(name)
    one, two = (fingerprint(tmp_path / folder / "*.jsonl") for folder in ("one", "two"))
    assert one["bytes"] == 2 and same_content(one, two)
    (tmp_path / "two/a.jsonl").write_text("c")
    assert not same_content(one, fingerprint(tmp_path / "two/*.jsonl"))
    assert fingerprint(tmp_path / "*.txt") == {"id": str(tmp_path / "*.txt")}
