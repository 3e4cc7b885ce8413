"""Rows of every format: what stands in them, where they stand, and what is wrong with a bad one."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from weldlm.data.columns import Columns
from weldlm.data.labelled_rows import Answer, LabelledText
from weldlm.data.row_files import RowKind, read_labelled, read_rows
from weldlm.data.rows import BadRow, Row
from weldlm.data.source_lines import MOST_LINE_BYTES


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def squad(*questions: dict[str, Any], context: str = "Rome is old.") -> str:
    return json.dumps({"data": [{"paragraphs": [{"context": context, "qas": list(questions)}]}]})


QUESTION = {"id": "a", "question": "What?", "answers": [{"text": "Rome", "answer_start": 0}]}


@pytest.mark.parametrize(
    ("name", "content", "texts", "labels"),
    [
        ("plain.txt", "good one\t1\nbad one\t0\nbad\t0\n", ["good one", "bad one", "bad"], "100"),
        ("label_first.tsv", "b\tx one\na\ty two\na\tz\n", ["x one", "y two", "z"], "baa"),
        ("quotes.tsv", 'a "quote\tn\nother\tn\n', ['a "quote', "other"], "nn"),
        ("header.tsv", "Label\tText\n1\tone\n\n0\ttwo\n", ["one", "two"], "10"),
        ("lines.csv", 'text,label\n"a, ""b""\nc",1\nd,0\n', ['a, "b"\nc', "d"], "10"),
        ("mark.csv", b"\xef\xbb\xbftext,label\r\na,1\r\n", ["a"], "1"),
        ("rows.jsonl", '{"text": "a", "label": 1}\n{"label": 0, "text": "b"}\n', ["a", "b"], "10"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_texts_and_labels_of_a_table(
    tmp_path: Path, name: str, content: str | bytes, texts: list[str], labels: str
) -> None:
    found = read_labelled(write(tmp_path / name, content), "texts")

    assert [row.text for row in found.rows] == texts
    assert "".join(row.label for row in found.rows) == labels


@pytest.mark.parametrize(
    ("kind", "header", "cells", "columns"),
    [
        ("texts", "premise,hypothesis,label", "a,b,c", Columns(("premise", "hypothesis"), "label")),
        ("numbers", "sentence1,sentence2,score", "a,b,3.5", None),
        ("targets", "source,target", "a,b", Columns(("source",), "target")),
        ("chats", "prompt,response", "a,b", Columns(("prompt",), "response")),
    ],
)
def test_columns_are_found_by_their_names(
    tmp_path: Path, kind: RowKind, header: str, cells: str, columns: Columns | None
) -> None:
    found = read_labelled(write(tmp_path / "rows.csv", f"{header}\n{cells}\n"), kind)

    assert found.columns == (columns or Columns(("sentence1", "sentence2"), "score"))


def test_named_columns_make_the_first_line_a_header(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", "id,opinion,stars\n7,fine,5\n8,bad,1\n")

    found = read_labelled(path, "texts", text_columns=["opinion"], label_column="stars")

    assert found.rows == [
        LabelledText(f"{path}:2", "fine", None, "5"),
        LabelledText(f"{path}:3", "bad", None, "1"),
    ]


def test_a_header_of_unknown_names_is_not_taken_for_a_row(tmp_path: Path) -> None:
    rows = "".join(f"text {number},{number % 2}\n" for number in range(20))

    with pytest.raises(ValueError, match=r"rows.csv:1 may be a header: 'stars' is a label of no"):
        read_labelled(write(tmp_path / "rows.csv", f"opinion,stars\n{rows}"), "texts")


def test_a_sentence_of_words_with_their_tags(tmp_path: Path) -> None:
    content = "-DOCSTART- -X- O\n\nRome NNP B-LOC\nis VBZ O\n\n\nold JJ O\n"

    found = read_labelled(write(tmp_path / "rows.conll", content), "words")

    assert [(row.words, row.tags) for row in found.rows] == [
        (("Rome", "is"), ("B-LOC", "O")),
        (("old",), ("O",)),
    ]


def test_questions_of_a_squad_file(tmp_path: Path) -> None:
    (row,) = read_labelled(write(tmp_path / "rows.json", squad(QUESTION)), "questions").rows

    assert (row.id, row.question, row.context) == ("a", "What?", "Rome is old.")
    assert row.answers == (Answer("Rome", 0),)


def test_packed_files_and_folders_of_files(tmp_path: Path) -> None:
    (tmp_path / "b.tsv.gz").write_bytes(gzip.compress(b"two\t0\nthree\t0\n", mtime=0))
    write(tmp_path / "a.tsv", "one\t1\n")
    write(tmp_path / "notes.md", "no rows")

    found = read_labelled(tmp_path, "texts")

    assert [row.text for row in found.rows] == ["one", "two", "three"]
    assert found.rows[2].place == f"{tmp_path / 'b.tsv.gz'}:2"


@pytest.mark.parametrize(
    ("name", "kind", "content", "place", "problem"),
    [
        ("a.tsv", "texts", b"one\t1\nna\xefve\t0\n", 2, "is not UTF-8 (byte 2 cannot be decoded)"),
        ("a.tsv", "texts", "one\t1\ntwo\n", 2, "has 1 columns; expected 2, as in the first row"),
        ("a.tsv", "texts", "one\t1\n \t1\n", 2, "the row has ' ' under '1'; expected a text"),
        ("a.csv", "texts", b'text,label\n"a\n\xff",1\n', 2, "is not UTF-8"),
        ("a.csv", "texts", 'text,label\na,1\n"b"c,0\n', 3, "the row is no CSV"),
        ("a.csv", "texts", 'text,label\na,1\n"b,0\n', 3, "the row is no CSV"),
        ("a.jsonl", "texts", '{"text": "a", "label": 1}\n{"text"\n', 2, "is not valid JSON"),
        ("a.jsonl", "texts", '{"text": "a", "label": 1}\n{"x": "b"}\n', 2, "no column 'text'"),
        ("a.jsonl", "texts", '{"text": "a", "label": 1}\n{"text": "b"}\n', 2, "expected its label"),
        ("a.jsonl", "texts", '{"text": "a", "label": 1}\n{"text": 3, "label": 1}\n', 2, "has 3 un"),
        ("a.csv", "numbers", "text,score\na,1\nb,nan\n", 3, "is 'nan'; expected a finite number"),
        ("a.conll", "words", "Rome B-LOC\n\nis O\nold\n", 4, "the line has 1 columns; expected 2"),
        ("a.jsonl", "words", '{"words": ["a", "b"], "tags": ["O"]}\n', 1, "2 words and 1 tags"),
        ("a.jsonl", "targets", '{"source": "a", "target": ""}\n', 1, "expected its label"),
        ("a.jsonl", "chats", '{"messages": [{"role": "user"}]}\n', 1, "a message is"),
    ],
)
def test_a_bad_row_is_named_with_file_and_line(
    tmp_path: Path, name: str, kind: RowKind, content: str | bytes, place: int, problem: str
) -> None:
    path = write(tmp_path / name, content)

    with pytest.raises(ValueError, match=r"on_error skip leaves it out") as caught:
        read_labelled(path, kind)

    assert str(caught.value).startswith(f"{path}:{place}: ")
    assert problem in str(caught.value)


def test_an_answer_that_is_not_there_is_named(tmp_path: Path) -> None:
    wrong = {**QUESTION, "answers": [{"text": "Rome", "answer_start": 1}]}
    path = write(tmp_path / "a.json", squad(QUESTION, wrong))

    with pytest.raises(ValueError, match=r"qas\[1\]: the answer 'Rome' does not stand at char"):
        read_labelled(path, "questions")


def test_bad_rows_are_counted_and_left_out_under_skip(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", b"one\t1\ntwo\n\xff\t1\nfour\t0\n\t1\n")

    found = read_labelled(path, "texts", on_error="skip")

    assert [row.text for row in found.rows] == ["one", "four"]
    assert [row.place for row in found.bad] == [f"{path}:{line}" for line in (2, 3, 5)]


def test_a_stop_counts_all_bad_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "one\t1\n" + "two\n" * 5)

    with pytest.raises(ValueError, match=r"a.tsv:2: .*\(5 bad rows: also .*:3, .*:4, .*:5, \.\.\."):
        read_labelled(path, "texts")


def test_an_overlong_line_is_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", b"one\t1\n" + b"x" * (3 * MOST_LINE_BYTES) + b"\t0\ntwo\t0\n")

    rows = list(read_rows(path))

    assert [row.place for row in rows] == [f"{path}:{line}" for line in (1, 2, 3)]
    assert isinstance(rows[1], BadRow)
    assert "the line has more than 16 MiB" in rows[1].error
    assert rows[2] == Row(f"{path}:3", {"1": "two", "2": "0"})


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.tsv", b"", "is empty; expected at least one row"),
        ("a.jsonl", b"\n\n", "is empty; expected at least one row"),
        ("a.tsv", "a\t1\n".encode("utf-16"), "the file is UTF-16; expected UTF-8; convert it"),
        ("a.tsv.gz", gzip.compress(b"a\t1\n" * 99, mtime=0)[:-9], "expected a whole .gz file"),
        ("a.tsv.gz", b"a\t1\n", "expected a whole .gz file"),
        ("a.json", b"[1]", 'holds no list under "data"'),
        ("a.csv", b"text,text\na,b\n", "names a column twice"),
        ("a.csv", b"text,other\na,b\n", "is known to hold labels; name them"),
        ("a.xlsx", b"a", "is of no known format; expected a name in .tsv, .txt"),
        ("a.tsv", b"a\tb\tc\td\n", "has 4 columns and no header"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    with pytest.raises(ValueError, match=r"a\.") as caught:
        read_labelled(write(tmp_path / name, content), "texts")

    assert problem in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist; expected a file of rows"):
        read_labelled(tmp_path / "a.tsv", "texts")


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\na,b\n")

    with pytest.raises(ValueError, match="has no column 'stars'; expected one of text, label"):
        read_labelled(path, "texts", label_column="stars")
