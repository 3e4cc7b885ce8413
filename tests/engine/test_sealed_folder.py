"""A sealed folder exists whole or not at all."""

from pathlib import Path

import pytest

from weldlm import sealed_folder
from weldlm.sealed_folder import (
    check_hashes,
    lock_file,
    lock_folder,
    read_manifest,
    remove_drafts,
    remove_folder,
    replace_folder,
    seal_folder,
)


def write(folder: Path, text: str, *, replace: bool = False) -> None:
    with seal_folder(folder, replace=replace) as draft:
        (draft.path / "inner").mkdir()
        (draft.path / "inner" / "a.txt").write_text(text)
        draft.about["answer"] = 42


def test_manifest_names_what_was_written(tmp_path: Path) -> None:
    write(tmp_path / "folder", "some text")

    manifest = read_manifest(tmp_path / "folder")

    assert manifest["answer"] == 42
    assert manifest["files"] == {
        "inner/a.txt": {
            "bytes": 9,
            "sha256": "b94f6f125c79e3a5ffaa826f584c10d52ada669e6762051b826b55776d05aed2",
        }
    }


def test_error_inside_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), seal_folder(tmp_path / "folder") as draft:
        draft.path.write_text("some text")

    assert list(tmp_path.iterdir()) == []


def test_replaced_folder_has_the_new_files_only(tmp_path: Path) -> None:
    write(tmp_path / "folder", "old")
    (tmp_path / "folder" / "stray.txt").write_text("stray")

    write(tmp_path / "folder", "new", replace=True)

    assert (tmp_path / "folder" / "inner" / "a.txt").read_text() == "new"
    assert not (tmp_path / "folder" / "stray.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_error_while_replacing_keeps_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: Path) -> str:
        raise OSError(28, "No space left on device")

    write(tmp_path / "folder", "old")
    monkeypatch.setattr(sealed_folder, "_sha256", full)

    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "folder", "new", replace=True)

    assert (tmp_path / "folder" / "inner" / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_drafts_of_the_dead_are_removed(tmp_path: Path) -> None:
    write(tmp_path / "folder", "whole")
    (tmp_path / ".other.partial" / "inner").mkdir(parents=True)
    (tmp_path / ".run.json.7-7.partial").write_text("half")

    remove_drafts(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_removed_folder_is_gone(tmp_path: Path) -> None:
    write(tmp_path / "folder", "whole")

    remove_folder(tmp_path / "folder")

    assert list(tmp_path.iterdir()) == []


def test_changed_file_of_the_same_size_is_found(tmp_path: Path) -> None:
    write(tmp_path / "folder", "some text")
    (tmp_path / "folder" / "inner" / "a.txt").write_text("more text")

    with pytest.raises(ValueError, match=r"a.txt has SHA-256 \w{12}...; expected b94f6f125c79"):
        check_hashes(tmp_path / "folder", read_manifest(tmp_path / "folder"))


def test_folder_is_locked_once(tmp_path: Path) -> None:
    with (
        lock_folder(tmp_path),
        pytest.raises(BlockingIOError, match="in use by another program"),
        lock_folder(tmp_path),
    ):
        pass


def test_lock_ends_with_the_block(tmp_path: Path) -> None:
    with lock_folder(tmp_path):
        pass

    with lock_folder(tmp_path):
        names = [path.name for path in tmp_path.iterdir()]

    assert names == [".lock"]


def test_a_folder_made_for_a_lock_goes_with_it(tmp_path: Path) -> None:
    with lock_folder(tmp_path / "empty"):
        pass
    with lock_folder(tmp_path / "full"):
        (tmp_path / "full" / "a.txt").write_text("kept")

    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_a_file_is_locked_once_and_the_lock_goes(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"

    with (
        lock_file(path),
        pytest.raises(BlockingIOError, match=r"out.jsonl is in use by another program; wait"),
        lock_file(path),
    ):
        pass

    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_a_dead_program_left_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".out.jsonl.lock").touch()

    with lock_file(tmp_path / "out.jsonl"):
        names = [path.name for path in tmp_path.iterdir()]

    assert names == [".out.jsonl.lock"]


def test_replaced_folder_needs_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old.txt").touch()

    with replace_folder(tmp_path / "folder") as draft:
        (draft / "new.txt").write_text("new")

    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_error_while_a_folder_is_replaced_keeps_the_old(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old.txt").touch()

    with pytest.raises(FileNotFoundError), replace_folder(tmp_path / "folder") as draft:
        (draft / "new.txt").rename(tmp_path / "nowhere" / "new.txt")

    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["old.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_files_get_the_mode_of_the_umask(tmp_path: Path) -> None:
    with seal_folder(tmp_path / "folder") as draft:
        (draft.path / "a.txt").touch(mode=0o600)

    plain = tmp_path / "plain.txt"
    plain.touch()
    assert (tmp_path / "folder" / "a.txt").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"manifest.json does not exist; expected a folder that was written completely"),
        ("{", r"manifest.json is damaged \(.*\); expected a manifest in JSON"),
        ("[]", r"manifest.json is damaged"),
        ('{"files": {"a.txt": {"bytes": "9"}}}', r"manifest.json is damaged"),
    ],
    ids=["missing", "torn", "list", "entry"],
)
def test_a_damaged_manifest_is_named_with_what_to_do(
    tmp_path: Path, text: str | None, message: str
) -> None:
    write(tmp_path / "folder", "some text")
    (tmp_path / "folder" / "manifest.json").unlink()
    contents = {} if text is None else {"manifest.json": text}
    for name, content in contents.items():
        (tmp_path / "folder" / name).write_text(content)

    with pytest.raises(
        (FileNotFoundError, ValueError),
        match=rf"{message}[^\n]*; restore it from a copy, or remove",
    ):
        read_manifest(tmp_path / "folder")
