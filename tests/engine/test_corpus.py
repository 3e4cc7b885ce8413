"""Documents from files."""

from pathlib import Path

import pytest

from weldlm.data.corpus import Document, is_held_out, read_documents, standard_library


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
