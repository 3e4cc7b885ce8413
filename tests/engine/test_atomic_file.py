"""Files that are whole or not there, and never in the place of somebody else's."""

import errno
import os
from pathlib import Path

import pytest

from weldlm.atomic_file import rename_to_new, replace_file, replace_text, require_writable


def no_links(_path: Path, _target: Path) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_text_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    replace_text(path, "old")
    replace_text(path, "n\u00fc")

    assert path.read_text(encoding="utf-8") == "n\u00fc"
    assert list(tmp_path.iterdir()) == [path]


def test_error_keeps_the_old_and_leaves_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    with pytest.raises(ZeroDivisionError), replace_file(path) as draft:
        draft.write_text(f"{1 / 0}")

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002], ids=oct)
def test_file_gets_the_mode_of_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with replace_file(tmp_path / "a") as draft:
            draft.write_text("x")
            draft.chmod(0o600)  # as writers that make temporary files do
    finally:
        os.umask(before)

    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask


def test_error_of_the_disk_names_the_file_and_not_the_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)

    with pytest.raises(OSError, match=r"No space left on device: '.*/a\.txt'$"):
        replace_text(tmp_path / "a.txt", "x")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link", [os.link, no_links], ids=["links", "no-links"])
def test_file_gets_a_new_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: object
) -> None:
    monkeypatch.setattr("os.link", link)
    (tmp_path / "a").write_text("ours")

    rename_to_new(tmp_path / "a", tmp_path / "b")

    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b").read_text() == "ours"


@pytest.mark.parametrize("link", [os.link, no_links], ids=["links", "no-links"])
def test_name_that_is_taken_is_left_to_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: object
) -> None:
    monkeypatch.setattr("os.link", link)
    (tmp_path / "a").write_text("ours")
    (tmp_path / "b").write_text("theirs")

    with pytest.raises(FileExistsError):
        rename_to_new(tmp_path / "a", tmp_path / "b")

    assert (tmp_path / "a").read_text() == "ours"
    assert (tmp_path / "b").read_text() == "theirs"


def test_folder_that_takes_no_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # permissions do not bind the superuser, who may run this
    monkeypatch.setattr("os.access", lambda path, _mode: path != tmp_path)

    require_writable(tmp_path.parent)

    with pytest.raises(PermissionError, match="cannot be written to; expected a folder that takes"):
        require_writable(tmp_path)
