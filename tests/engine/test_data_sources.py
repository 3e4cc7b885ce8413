"""Documents from files of every kind, and what is said about those that cannot be read."""

import gzip
import io
import json
import tracemalloc
from pathlib import Path

import pytest

from weldlm.data.corpus import Document
from weldlm.data.rows import BadRow
from weldlm.data.sources import ReadSettings, find_sources, read_source
from weldlm.data.sources.text_documents import read_text

MANY = "one\ntwo\n\nthree\n"


def read(path: Path | str, include: tuple[str, ...] = (), **settings: str) -> list[object]:
    """Texts of documents, and places with what is wrong there."""
    found: list[object] = []
    for source in find_sources([path], include=include).files:
        for document in read_source(source, ReadSettings(**settings)):
            is_good = isinstance(document, Document)
            found.append(document.text if is_good else (document.place, document.error))
    return found


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.txt", MANY, [MANY]),
        ("a.md", b"\xef\xbb\xbf# Head\n", ["# Head\n"]),
        ("a.txt.gz", gzip.compress(MANY.encode()), [MANY]),
        ("a.cpp", "int x;\n", ["int x;\n"]),
        ("a.py", "# -*- coding: latin-1 -*-\nx = '\u00e9'\n".encode("latin-1"), None),
        ("a.jsonl", '{"text": "one"}\n\n{"text": "tw\\u00f6", "id": 2}\n', ["one", "tw\u00f6"]),
        ("a.csv", 'id,review\n1,"one,\nmore"\n2,two\n', ["one,\nmore", "two"]),
        ("a.tsv", "one\ntwo\n", ["one", "two"]),
        ("a.html", "<p>\u00e9</p>", ["<p>\u00e9</p>"]),
        ("b.html", '<meta charset="iso-8859-1"><p>\u00e9</p>'.encode("latin-1"), None),
    ],
    ids=lambda value: value if isinstance(value, str) and value[:2] in ("a.", "b.") else "",
)
def test_file_holds_these_texts(
    tmp_path: Path, name: str, content: str | bytes, texts: list[str] | None
) -> None:
    path = write(tmp_path, name, content)
    if texts is None:
        assert isinstance(content, bytes)
        texts = [content.decode("latin-1")]

    assert read(path) == texts


@pytest.mark.parametrize(
    ("separator", "texts"),
    [("", ["one\ntwo\n", "three\n"]), ("two", ["one\n", "\nthree\n"]), ("none", [MANY])],
    ids=["empty-line", "line", "absent"],
)
def test_a_line_stands_between_documents(tmp_path: Path, separator: str, texts: list[str]) -> None:
    assert read(write(tmp_path, "a.txt", MANY), separator=separator) == texts


@pytest.mark.parametrize("block_bytes", [9, 16, 31, 64, 4096])
def test_blocks_do_not_change_what_separators_cut(block_bytes: int) -> None:
    whole = "".join(f"{number}\n{'x' * (number % 5)}\n--\n" for number in range(60))

    found = list(
        read_text(io.BytesIO(whole.encode()), "p", "n", separator="--", block_bytes=block_bytes)
    )

    assert [document.text for document in found if isinstance(document, Document)] == [
        f"{piece}" for piece in whole.split("--\n")[:-1]
    ]


def test_long_file_is_several_documents_of_whole_lines() -> None:
    whole = "".join(f"line {number}\n" for number in range(500))

    found = list(read_text(io.BytesIO(whole.encode()), "p", "n", block_bytes=1000))

    texts = [document.text for document in found if isinstance(document, Document)]
    assert "".join(texts) == whole
    assert max(map(len, texts)) <= 1000
    assert all(text.endswith("\n") for text in texts)
    assert found[1].name == f"n:{texts[0].count(chr(10)) + 1}"  # type: ignore[union-attr]  # no bad row


class Endless(io.RawIOBase):
    """A line of a gigabyte, and one behind it."""

    def __init__(self) -> None:
        self.left = 1 << 30

    def read(self, size: int = -1, /) -> bytes:
        return self._take(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        return self._take(size or -1)

    def _take(self, size: int) -> bytes:
        size = min(size, self.left)
        self.left -= size
        return b"x" * (size - 1) + b"\nlast" if size and not self.left else b"x" * size


def test_line_of_a_gigabyte_is_passed_over_in_bounded_memory() -> None:
    tracemalloc.start()

    found = list(read_text(Endless(), "p", "n"))  # type: ignore[arg-type]  # reads are all it needs
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert isinstance(found[0], BadRow)
    assert (found[0].place, "more than 16 MiB" in found[0].error) == ("p:1", True)
    assert peak < 5 * (1 << 24)


@pytest.mark.parametrize(
    ("name", "content", "place", "problem"),
    [
        ("a.txt", b"fine\nfine\nb\xe4d\n", ":3", "not UTF-8 (byte 0xe4)"),
        ("a.txt", "text".encode("utf-16"), ":1", "UTF-16"),
        ("a.txt", b"", ":1", "empty"),
        ("a.csv", b"text,label\n", ":1", "empty"),
        ("a.py", b"x = '\xe4'\n", ":1", "not UTF-8"),
        ("a.html", b"<p>\xe4</p>", "", "name its charset"),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', ":2", "not valid JSON"),
        ("a.jsonl", b'{"text": "x"}\n{"body": "x"}\n', ":2", "there is no 'text', but body"),
        ("a.jsonl", b'{"text": "x"}\n{"text": 5}\n', ":2", "'text' is 5"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', ":1", "lone surrogate"),
        ("a.csv", b"text,label\nx,1\ny\n", ":3", "1 columns"),
        ("a.csv", b"first,second\nx,1\n", ":1", "none of the columns"),
        ("a.txt.gz", gzip.compress(b"x" * 999)[:-9], ":1", "expected a whole .gz file"),
        ("a.parquet", b"PAR1nothing", "", "damaged"),
        ("a.arrow", b"nothing at all", "", "damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_stands_beside_its_place(
    tmp_path: Path, name: str, content: bytes, place: str, problem: str
) -> None:
    if name.endswith(("parquet", "arrow")):
        pytest.importorskip("pyarrow", reason="the extra `data`")
    path = write(tmp_path, name, content)

    bad = [found for found in read(path) if isinstance(found, tuple)]

    assert len(bad) == 1
    assert bad[0][0] == f"{path}{place}"
    assert problem in f"{bad[0][1]}"


def test_an_empty_module_is_no_mistake(tmp_path: Path) -> None:
    write(tmp_path, "p/__init__.py", "")
    write(tmp_path, "p/a.py", "x\n")

    assert read(tmp_path) == ["x\n"]


def test_folder_names_what_it_leaves_out(tmp_path: Path) -> None:
    for name in ("a.txt", "b.png", "c.png", "d.log", ".hidden.txt", ".git/e.txt"):
        write(tmp_path, name, "text")

    assert find_sources([tmp_path]).left_out == {".log": 1, ".png": 2}
    assert [file.name.split("/")[-1] for file in find_sources([tmp_path]).files] == ["a.txt"]
    assert read(tmp_path, include=("*.log",)) == ["text"]


def test_what_cannot_be_read_at_all_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a/a.png", "text")

    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_sources([tmp_path / "b"])
    with pytest.raises(FileNotFoundError, match="holds no file to read"):
        find_sources([tmp_path / "a"])
    with pytest.raises(ValueError, match="of no known kind"):
        find_sources([path])


def test_a_file_is_given_once(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "text")

    with pytest.raises(ValueError, match="given twice"):
        find_sources([path, tmp_path])


def test_standard_library_is_read_whole() -> None:
    found = read("stdlib")

    assert Path(json.__file__).read_text() in found
    assert all(isinstance(text, str) for text in found)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl.zst"])
def test_columns_of_arrow(tmp_path: Path, name: str) -> None:
    arrow = pytest.importorskip("pyarrow", reason="the extra `data`")
    parquet = pytest.importorskip("pyarrow.parquet")
    texts = [f"text {number} \u00e9" for number in range(700)]
    table = arrow.table({"id": range(700), "text": texts})
    path = tmp_path / name
    match path.suffix:
        case ".parquet":
            parquet.write_table(table, path, row_group_size=300)
        case ".arrow":
            with (
                arrow.OSFile(str(path), "wb") as file,
                arrow.ipc.new_stream(file, table.schema) as out,
            ):
                out.write_table(table)
        case _:
            with arrow.output_stream(str(path), compression="zstd") as file:
                file.write("".join(json.dumps({"text": text}) + "\n" for text in texts).encode())

    assert read(path) == texts


def test_packed_text_that_was_cut_off_is_damaged(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="the extra `data`")
    path = tmp_path / "a.txt.zst"
    with arrow.output_stream(str(path), compression="zstd") as file:
        file.write(b"some text\n" * 9999)
    path.write_bytes(path.read_bytes()[:-20])

    (bad,) = read(path)

    assert isinstance(bad, tuple)
    assert "damaged (Truncated compressed stream); expected a whole .zst file" in bad[1]


def test_dataset_that_hugging_face_saved(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    texts = [f"text {number}" for number in range(50)]
    dataset = datasets.Dataset.from_dict({"label": list(range(50)), "text": texts})
    dataset.save_to_disk(str(tmp_path / "one"), num_shards=3)
    datasets.DatasetDict({"train": dataset, "test": dataset}).save_to_disk(str(tmp_path / "two"))

    assert read(tmp_path / "one") == texts
    assert read(tmp_path / "two" / "train") == texts
    with pytest.raises(ValueError, match=r"several splits.*two/test, .*two/train"):
        find_sources([tmp_path / "two"])
