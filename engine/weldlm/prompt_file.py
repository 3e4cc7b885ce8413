"""Files of prompts: one in each line, as text (.txt) or as {"prompt": text} (.jsonl)."""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from weldlm.config import ModelConfig
from weldlm.prompt import encode_prompt
from weldlm.text_file import decode_text, parse_json, require_whole_characters
from weldlm.tokenizer import Tokenizer

__all__ = ["PromptRow", "check_prompt_file", "read_prompts"]

_EXPECTED = '{"prompt": text}'


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A line of the file."""

    index: int  # counts the lines from 0
    text: str = ""
    ids: tuple[int, ...] = ()
    error: str | None = None  # what is wrong with it


def check_prompt_file(path: Path) -> None:
    """Refuses what `read_prompts` could not read at all.

    Raises:
        ValueError: its name ends in neither .txt nor .jsonl.
        FileNotFoundError: there is no such file.
    """
    if path.suffix not in _READERS:
        expected = " or ".join(_READERS)
        raise ValueError(f"{path} is not a file of prompts; expected a name in {expected}")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a file of prompts")


def read_prompts(
    path: Path, config: ModelConfig, tokenizer: Tokenizer, *, done: Container[int] = ()
) -> Iterator[PromptRow]:
    """Yields the lines one by one, but those whose index is in `done`."""
    read = _READERS[path.suffix]
    with path.open("rb") as lines:
        for index, line in enumerate(lines):
            if index in done:
                continue
            try:
                line = line.removesuffix(b"\n").removesuffix(b"\r")
                text = read(decode_text(line, "the line", is_start=index == 0))
                row = PromptRow(index, text, tuple(encode_prompt(config, tokenizer, text)))
            except ValueError as error:
                row = PromptRow(index, error=str(error))
            yield row


def _read_text(line: str) -> str:
    if not line:
        raise ValueError("the line is empty; expected a prompt")
    return line


def _read_json(line: str) -> str:
    row = parse_json(line, "the line", expected=_EXPECTED)
    prompt = row.get("prompt") if isinstance(row, dict) else None
    if not isinstance(prompt, str) or not prompt:
        raise ValueError(f'the line has no text under "prompt"; expected {_EXPECTED}')
    require_whole_characters(prompt, "the prompt")
    return prompt


_READERS: dict[str, Callable[[str], str]] = {".txt": _read_text, ".jsonl": _read_json}
