"""Lines of a file become prompts: only a newline ends one."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.tiny_models import tiny_config
from weldlm.prompt_file import PromptReader, PromptRow, check_prompt_file
from weldlm.sampling_settings import SamplingSettings
from weldlm.tokenizer import Tokenizer

CONFIG = tiny_config(vocab_size=300)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["no pair occurs twice"], 257, min_frequency=9)


def reader(tokenizer: Tokenizer) -> PromptReader:
    return PromptReader(CONFIG, tokenizer, SamplingSettings())


def read(path: Path, content: bytes, tokenizer: Tokenizer, done: tuple[int, ...] = ()) -> list[str]:
    path.write_bytes(content)
    return [row.shown["prompt"] for row in reader(tokenizer).read(path, done=done)]


def as_text(prompt: str) -> str:
    return prompt


def as_json(prompt: str) -> str:
    return json.dumps({"prompt": prompt}, ensure_ascii=False)


@pytest.mark.parametrize(
    "separator", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\r"], ids=ascii
)
@pytest.mark.parametrize(("name", "write"), [("in.txt", as_text), ("in.jsonl", as_json)])
def test_other_separators_are_part_of_a_prompt(
    tmp_path: Path,
    tokenizer: Tokenizer,
    name: str,
    write: Callable[[str], str],
    separator: str,
) -> None:
    prompts = [f"one{separator}two", "last"]
    content = "".join(write(prompt) + "\n" for prompt in prompts)

    assert read(tmp_path / name, content.encode(), tokenizer) == prompts


def test_only_the_first_line_may_begin_with_a_byte_order_mark(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    texts = read(tmp_path / "in.txt", b"\xef\xbb\xbfa\n\xef\xbb\xbfb", tokenizer)

    assert texts == ["a", "\ufeffb"]


def test_rows_that_are_done_are_left_out(tmp_path: Path, tokenizer: Tokenizer) -> None:
    assert read(tmp_path / "in.txt", b"a\nb\nc\n", tokenizer, done=(0, 2)) == ["b"]


def test_a_row_holds_the_ids_of_its_prompt(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "in.txt").write_text("ab\n")

    (row,) = reader(tokenizer).read(tmp_path / "in.txt")

    assert row == PromptRow(index=0, shown={"prompt": "ab"}, ids=tuple(tokenizer.encode("ab")))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "the line is not valid JSON"),
        (b'{"prompt": ' + b"9" * 5000 + b"}", "is JSON with a number of too many digits"),
        (b'"\xff"', "the line is not UTF-8 (byte 1 cannot be decoded); convert or leave it out"),
    ],
    ids=["torn", "digits", "bytes"],
)
def test_a_bad_line_is_a_row_that_says_why(
    tmp_path: Path, tokenizer: Tokenizer, line: bytes, message: str
) -> None:
    (tmp_path / "in.jsonl").write_bytes(line)

    (row,) = reader(tokenizer).read(tmp_path / "in.jsonl")

    assert row.error is not None
    assert message in str(row.error)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("in.csv", ValueError, "a name in .txt or .jsonl"),
        ("no.txt", FileNotFoundError, "does not exist; expected a file of prompts"),
        ("folder.txt", FileNotFoundError, "does not exist; expected a file of prompts"),
    ],
)
def test_what_is_no_file_of_prompts_is_refused(
    tmp_path: Path, name: str, error: type[Exception], message: str
) -> None:
    (tmp_path / "in.csv").touch()
    (tmp_path / "folder.txt").mkdir()

    with pytest.raises(error, match=message):
        check_prompt_file(tmp_path / name)
