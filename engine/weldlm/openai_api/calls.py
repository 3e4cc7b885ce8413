"""Calls of /v1/completions and /v1/chat/completions: what a body asks of the engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from weldlm.chat_prompt import encode_chat
from weldlm.config import ModelConfig
from weldlm.generation_request import Request
from weldlm.openai_api.errors import ApiError
from weldlm.openai_api.fields import (
    Fields,
    as_flag,
    as_ids,
    as_integer,
    as_object,
    as_text,
)
from weldlm.openai_api.settings import read_settings
from weldlm.prompt import encode_prompt, num_first_ids
from weldlm.sampling_settings import SamplingSettings
from weldlm.tokenizer import Tokenizer

__all__ = ["ApiModel", "Call", "read_call"]

_COMPLETIONS, _CHAT = "/v1/completions", "/v1/chat/completions"
_DEFAULT_MAX_TOKENS = 16  # of a completion, as in OpenAI's; an answer may fill the context


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiModel:
    """The model that calls are made of, and what they may ask."""

    name: str
    config: ModelConfig
    tokenizer: Tokenizer
    max_length: int  # tokens of the longest sequence
    seed: int | None = None  # of calls that give none; drawn for each where None
    max_tokens: int | None = None  # of calls that give none; 16, or what fits for a chat, if None
    row_id: int = 0  # of the first prompt

    def require_name(self, name: str | None) -> None:
        """Refuses the name of another model.

        Raises:
            ApiError: it is.
        """
        if name is not None and name != self.name:
            raise ApiError(
                404,
                f"the model {name[:60]!a} does not exist; expected {self.name!a}",
                param="model",
                code="model_not_found",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a body asks for."""

    model: ApiModel
    is_chat: bool
    prompts: tuple[tuple[int, ...], ...]
    settings: SamplingSettings
    echoes: bool  # the text of an answer begins with the prompt
    is_generating: bool  # False where max_tokens is 0: the one new token is dropped
    is_streamed: bool
    includes_usage: bool  # behind a stream

    @property
    def num_prompt_tokens(self) -> int:
        return sum(map(len, self.prompts))

    def requests(self, call_id: str) -> list[Request]:
        """What the engine computes, a request for each prompt."""
        return [
            Request(
                id=f"{call_id}/{place}",
                ids=ids,
                settings=self.settings,
                row_id=self.model.row_id + place,
            )
            for place, ids in enumerate(self.prompts)
        ]


def read_call(path: str, body: Any, model: ApiModel) -> Call:
    """Reads the body of a call.

    Args:
        path: /v1/completions or /v1/chat/completions.
        body: as JSON gives it.
        model: what answers.

    Raises:
        ApiError: the body is not one of such a call, or the model cannot answer it.
    """
    if path not in (_COMPLETIONS, _CHAT):
        message = f"{path[:60]!a} does not exist; expected {_COMPLETIONS} or {_CHAT}"
        raise ApiError(404, message)
    fields, is_chat = Fields(body), path == _CHAT
    model.require_name(fields.take("model", as_text, "the name of a model"))
    prompts = _read_messages(fields, model) if is_chat else _read_prompts(fields, model)
    echoes = not is_chat and bool(fields.take("echo", as_flag, "true or false"))
    streams = bool(fields.take("stream", as_flag, "true or false"))
    options = fields.take("stream_options", as_object, "an object") or {}
    num_logprobs = _read_logprobs(fields, is_chat=is_chat)
    max_tokens = _read_max_tokens(fields, model, prompts, is_chat=is_chat)
    settings = read_settings(
        fields,
        seed=model.seed,
        max_tokens=max(max_tokens, 1),
        logprobs=num_logprobs if max_tokens else None,
        prompt_logprobs=num_logprobs if echoes else None,
    )
    fields.finish()
    call = Call(
        model=model,
        is_chat=is_chat,
        prompts=prompts,
        settings=settings,
        echoes=echoes,
        is_generating=max_tokens > 0,
        is_streamed=streams,
        includes_usage=options.get("include_usage") is True,
    )
    if streams and not (settings.is_streamed and call.is_generating):
        message = "num_beams, best_of and max_tokens 0 are not streamed; leave out stream"
        raise ApiError(422, message)
    if streams and settings.prompt_logprobs is not None:
        raise ApiError(422, "echo with logprobs is not streamed; leave out stream")
    return call


def _read_prompts(fields: Fields, model: ApiModel) -> tuple[tuple[int, ...], ...]:
    expected = "a text, ids, or a list of either"
    given = fields.take("prompt", _as_prompts, expected)
    if not given:
        raise ApiError(422, f"there is no prompt; expected {expected}", param="prompt")
    return tuple(_encoded(model, prompt) for prompt in given)


def _as_prompts(value: Any) -> list[str | tuple[int, ...]]:
    if isinstance(value, str):
        return [as_text(value)]
    if isinstance(value, list) and value and isinstance(value[0], int):
        return [as_ids(value)]
    if not isinstance(value, list):
        raise TypeError
    return [as_text(item) if isinstance(item, str) else as_ids(item) for item in value]


def _encoded(model: ApiModel, prompt: str | Sequence[int]) -> tuple[int, ...]:
    try:
        return tuple(encode_prompt(model.config, model.tokenizer, prompt))
    except ValueError as error:
        raise ApiError(400, str(error), param="prompt") from error


def _read_messages(fields: Fields, model: ApiModel) -> tuple[tuple[int, ...], ...]:
    expected = "a list of objects with 'role' and 'content'"
    messages = fields.take("messages", _as_messages, expected)
    if not messages:
        raise ApiError(422, f"there are no messages; expected {expected}", param="messages")
    try:
        return (tuple(encode_chat(model.config, model.tokenizer, messages)),)
    except ValueError as error:
        raise ApiError(400, str(error), param="messages") from error


def _as_messages(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise TypeError
    return list(map(as_object, value))


def _read_logprobs(fields: Fields, *, is_chat: bool) -> int | None:
    if not is_chat:
        return fields.take("logprobs", as_integer, "a number of tokens")
    num_top = fields.take("top_logprobs", as_integer, "a number of tokens") or 0
    wanted = fields.take("logprobs", as_flag, "true or false")
    if num_top and not wanted:
        raise ApiError(422, "top_logprobs needs logprobs true; set it", param="top_logprobs")
    return num_top if wanted else None


def _read_max_tokens(
    fields: Fields, model: ApiModel, prompts: Sequence[Sequence[int]], *, is_chat: bool
) -> int:
    """What is asked for, less where the longest prompt leaves no room for it."""
    longest = num_first_ids(model.config, max(map(len, prompts)))
    room = model.max_length - longest
    if room < 1:
        raise ApiError(
            400,
            f"the prompt has {longest} tokens; expected fewer than {model.max_length}; shorten it",
            param="messages" if is_chat else "prompt",
            code="context_length_exceeded",
        )
    asked = fields.take("max_tokens", as_integer, "a number of tokens")
    newer = fields.take("max_completion_tokens", as_integer, "a number of tokens")
    asked = newer if newer is not None else asked
    if asked is None:
        asked = model.max_tokens
    if asked is None:
        asked = room if is_chat else _DEFAULT_MAX_TOKENS
    if asked < 0 or (is_chat and asked == 0):
        raise ApiError(422, f"max_tokens is {asked}; expected at least 1", param="max_tokens")
    return min(asked, room)
