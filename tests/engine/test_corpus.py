"""Documents from files."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from weldlm.data.corpus import (
    Document,
    is_held_out,
    read_documents,
    require_text,
    standard_library,
)


def test_text_file_is_one_document(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n")

    assert list(read_documents(path)) == [Document("a.txt", "one\ntwo\n")]


def test_json_lines_are_one_document_each(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n\n{"text": "two", "id": 2}\n')

    assert [document.text for document in read_documents(path)] == ["one", "two"]


def test_folder_is_read_in_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("b")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.py").write_text("c")
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "ignored.png").write_bytes(b"\x89PNG")

    assert [document.text for document in read_documents(tmp_path)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"a\.jsonl:2 is not valid JSON"),
        ('{"body": 1}', r"a\.jsonl:2 is .* expected \{\"text\""),
        ('["text"]', r"a\.jsonl:2 is"),
    ],
    ids=["broken", "other-field", "no-object"],
)
def test_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n' + line + "\n")

    with pytest.raises(ValueError, match=message):
        list(read_documents(path))


def test_text_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("caf\u00e9".encode("latin-1"))

    with pytest.raises(
        ValueError, match=r"latin\.txt is not UTF-8 \(byte 3 cannot be decoded\); convert or leave"
    ):
        list(read_documents(path))


@pytest.mark.parametrize("name", ["missing.txt", ""], ids=["missing", "empty-folder"])
def test_nothing_to_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match="expected"):
        list(read_documents(tmp_path / name))


def test_standard_library_has_sources_and_no_tests() -> None:
    names = [document.name for document in standard_library()]

    assert "argparse.py" in names
    assert names == sorted(names, key=lambda name: Path(name))
    assert not [name for name in names if "test" in Path(name).parts[:-1]]


def test_held_out_share_is_about_the_fraction_and_grows_with_it() -> None:
    names = [f"file{number}.py" for number in range(4_000)]

    some = {name for name in names if is_held_out(name, 0.05)}
    more = {name for name in names if is_held_out(name, 0.10)}

    assert 140 < len(some) < 260
    assert some < more


SEPARATORS = ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\r"]


@pytest.mark.parametrize("separator", SEPARATORS, ids=ascii)
def test_only_a_newline_ends_a_line_of_json(tmp_path: Path, separator: str) -> None:
    texts = [f"one{separator}two", "three"]
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    (tmp_path / "a.jsonl").write_bytes("\n".join(lines).encode())

    assert [document.text for document in read_documents(tmp_path / "a.jsonl")] == texts


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a\\ud800"}', r'the "text" of .*a\.jsonl:2 holds half a character, .*\\ud800'),
        ('{"text": "\\udc00\\ud800"}', r"the lone surrogate '\\udc00'"),
        ("[" * 100_000, r"a\.jsonl:2 is JSON nested too deep; expected"),
        ("9" * 5_000, r"a\.jsonl:2 is JSON with a number of too many digits; expected"),
    ],
    ids=["half-character", "wrong-order", "nested", "digits"],
)
def test_json_that_holds_no_text_is_refused_in_one_line(
    tmp_path: Path, line: str, message: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n' + line)

    with pytest.raises(ValueError, match=message) as caught:
        list(read_documents(path))

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_byte_order_mark_is_no_text(tmp_path: Path, name: str) -> None:
    content = {"a.txt": "one", "a.jsonl": '{"text": "one"}'}[name]
    (tmp_path / name).write_text(content, encoding="utf-8-sig")

    assert [document.text for document in read_documents(tmp_path / name)] == ["one"]


def test_a_folder_named_like_a_file_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x.txt").mkdir()
    (tmp_path / "x.txt" / "inner.txt").write_text("one")
    (tmp_path / "empty.jsonl").mkdir()

    assert list(read_documents(tmp_path)) == [Document("x.txt/inner.txt", "one")]


def test_a_folder_that_cannot_be_read_is_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scandir(path: str) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    (tmp_path / "a.txt").write_text("one")
    monkeypatch.setattr("os.scandir", scandir)

    with pytest.raises(PermissionError):
        list(read_documents(tmp_path))


def test_an_error_while_reading_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_bytes(_path: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "a.txt").write_text("one")
    monkeypatch.setattr(Path, "read_bytes", read_bytes)

    with pytest.raises(OSError, match=r"Input/output error: '.*a\.txt'"):
        list(read_documents(tmp_path))


def test_documents_with_text_pass() -> None:
    documents = [Document("a", " \n"), Document("b", "x")]

    assert list(require_text(documents)) == documents


@pytest.mark.parametrize(
    ("documents", "names"),
    [
        ([], "no document"),
        ([Document("a", ""), Document("b", " \n\u2003")], "a, b"),
        ([Document(name, "") for name in "abcde"], "a, b, c"),
    ],
    ids=["none", "blank", "many"],
)
def test_documents_without_text_are_refused(documents: list[Document], names: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^the data \({names}\) holds no text; expected at least"
    ):
        list(require_text(documents))
