"""Files of prompts, one in each line: text (.txt) or JSON (.jsonl).

A JSON line is {"prompt": text}, {"messages": [...]}, which the chat template spells, or a row of
OpenAI's batches, {"custom_id", "method", "url", "body"}. Settings of its own, by OpenAI's names,
stand beside the prompt or in the body.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weldlm.chat_prompt import encode_chat
from weldlm.config import ModelConfig
from weldlm.generation_request import Request
from weldlm.openai_api import ApiError, ApiModel, Call, Fields, change_settings, read_call
from weldlm.prompt import encode_prompt, num_first_ids
from weldlm.sampling_settings import SamplingSettings
from weldlm.text_file import decode_text, parse_json, require_whole_characters
from weldlm.tokenizer import Tokenizer

__all__ = ["PromptReader", "PromptRow", "check_prompt_file"]

_EXPECTED = '{"prompt": text}, {"messages": [...]} or a row of an OpenAI batch'
_SUFFIXES = (".txt", ".jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRow:
    """A line of the file."""

    index: int  # counts the lines from 0
    shown: dict[str, Any]  # what the answer repeats of it
    ids: tuple[int, ...] = ()
    settings: SamplingSettings | None = None  # of its own, beside those of an OpenAI row
    call: Call | None = None  # of an OpenAI row
    error: ApiError | None = None  # what is wrong with it

    @property
    def is_openai(self) -> bool:
        return "custom_id" in self.shown

    def requests(self, settings: SamplingSettings) -> list[Request]:
        """What the engine computes; `settings` are those of rows that have none."""
        if self.call is not None:
            return self.call.requests(str(self.index))
        own = self.settings or settings
        return [Request(id=f"{self.index}/0", ids=self.ids, settings=own, row_id=self.index)]

    def num_tokens(self, config: ModelConfig, settings: SamplingSettings) -> int:
        """Most tokens of a sequence of the row."""
        return max(
            (
                num_first_ids(config, len(request.ids)) + request.settings.max_tokens
                for request in self.requests(settings)
            ),
            default=0,
        )


def check_prompt_file(path: Path) -> None:
    """Refuses what could not be read at all.

    Raises:
        ValueError: its name ends in neither .txt nor .jsonl.
        FileNotFoundError: there is no such file.
    """
    if path.suffix not in _SUFFIXES:
        expected = " or ".join(_SUFFIXES)
        raise ValueError(f"{path} is not a file of prompts; expected a name in {expected}")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a file of prompts")


@dataclass(frozen=True, slots=True)
class PromptReader:
    """Reads files of prompts for a model."""

    config: ModelConfig
    tokenizer: Tokenizer
    settings: SamplingSettings  # their seed and max_tokens are those of OpenAI rows without any
    shard: tuple[int, int] = (0, 1)  # (i, n) is every n-th line from line i

    def read(self, path: Path, *, done: Container[int] = ()) -> Iterator[PromptRow]:
        """Yields the shard's lines one by one, but those whose index is in `done`."""
        first, step = self.shard
        with path.open("rb") as lines:
            for index, line in enumerate(lines):
                if index % step == first and index not in done:
                    yield self._read_line(index, line, is_json=path.suffix == ".jsonl")

    def _read_line(self, index: int, line: bytes, *, is_json: bool) -> PromptRow:
        row = PromptRow(index=index, shown={})
        try:
            line = line.removesuffix(b"\n").removesuffix(b"\r")
            text = decode_text(line, "the line", is_start=index == 0)
            if not is_json:
                return self._of_text(row, text)
            fields = parse_json(text, "the line", expected=_EXPECTED)
            if isinstance(fields, dict) and "custom_id" in fields:
                row = replace(row, shown={"custom_id": fields["custom_id"]})
                return self._of_openai(row, fields)
            return self._of_json(row, fields)
        except ApiError as error:
            return replace(row, error=error)
        except ValueError as error:
            return replace(row, error=ApiError(400, str(error)))

    def _of_text(self, row: PromptRow, text: str) -> PromptRow:
        if not text:
            raise ValueError("the line is empty; expected a prompt")
        ids = tuple(encode_prompt(self.config, self.tokenizer, text))
        return replace(row, shown={"prompt": text}, ids=ids)

    def _of_json(self, row: PromptRow, fields: Any) -> PromptRow:
        if isinstance(fields, dict):
            row = replace(row, settings=change_settings(Fields(fields), self.settings))
        if isinstance(fields, dict) and isinstance(fields.get("messages"), list):
            messages = fields["messages"]
            ids = tuple(encode_chat(self.config, self.tokenizer, messages))
            return replace(row, shown={"messages": messages}, ids=ids)
        prompt = fields.get("prompt") if isinstance(fields, dict) else None
        if not isinstance(prompt, str) or not prompt:
            raise ValueError(f'the line has no text under "prompt"; expected {_EXPECTED}')
        require_whole_characters(prompt, "the prompt")
        return self._of_text(row, prompt)

    def _of_openai(self, row: PromptRow, fields: dict[str, Any]) -> PromptRow:
        custom_id, method = fields["custom_id"], fields.get("method")
        if not isinstance(custom_id, str) or not custom_id:
            raise ApiError(422, f"custom_id is {custom_id!a}; expected a text", param="custom_id")
        if method != "POST":
            raise ApiError(422, f"method is {method!a}; expected 'POST'", param="method")
        body = fields.get("body")
        named = body.get("model") if isinstance(body, dict) else None
        model = ApiModel(
            name=named if isinstance(named, str) else "",  # the job's model, by whatever name
            config=self.config,
            tokenizer=self.tokenizer,
            max_length=self.config.context_length,
            seed=self.settings.seed,
            max_tokens=self.settings.max_tokens,
            row_id=row.index,
        )
        call = read_call(str(fields.get("url")), body, model)
        if call.is_streamed:
            raise ApiError(422, "stream is true; expected a whole answer in a batch; leave it out")
        return replace(row, call=call)
