"""Answers to calls, whole or as chunks of a stream."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from weldlm.completion import Completion
from weldlm.engine import Event
from weldlm.openai_api.calls import Call
from weldlm.openai_api.logprobs import chat_logprobs, completion_logprobs

__all__ = ["answer_call", "chunk", "final_chunk", "first_chunks", "usage_chunk"]


def answer_call(
    call: Call, call_id: str, completions: Sequence[Completion], *, created: int | None = None
) -> dict[str, Any]:
    """The whole answer, from a completion for each prompt.

    Args:
        call: what was asked.
        call_id: names it.
        completions: of the prompts, in their order.
        created: seconds since 1970; now where None.
    """
    found = [[first, *first.others] for first in completions]
    choices = [
        _choice(call, place * len(group) + number, prompt, first, completion)
        for place, (prompt, first, group) in enumerate(
            zip(call.prompts, completions, found, strict=True)
        )
        for number, completion in enumerate(group)
    ]
    num_tokens = sum(len(completion.ids) for group in found for completion in group)
    return {
        **_head(call, call_id, is_chunk=False, created=created),
        "choices": choices,
        "usage": _usage(call, num_tokens if call.is_generating else 0),
    }


def first_chunks(call: Call, call_id: str) -> Iterator[dict[str, Any]]:
    """What a stream begins with: the assistant's role, or the prompt where it is echoed."""
    for place in range(len(call.prompts) * call.settings.n):
        if call.is_chat:
            yield _chunk(call, call_id, place, {"delta": {"role": "assistant", "content": ""}})
        elif call.echoes:
            prompt = call.prompts[place // call.settings.n]
            yield _chunk(call, call_id, place, {"text": _text_of(call, prompt)})


def chunk(call: Call, call_id: str, place: int, event: Event) -> dict[str, Any] | None:
    """What an event of the prompt at `place` adds to a stream; None where nothing shows."""
    if not event.text and not event.logprobs:
        return None
    logprobs = None
    if event.logprobs:
        # where a stream of texts is from its beginning is not known to a chunk
        logprobs = _logprobs(call, event.logprobs)
    part = {"delta": {"content": event.text}} if call.is_chat else {"text": event.text}
    number = place * call.settings.n + event.index
    return _chunk(call, call_id, number, {**part, "logprobs": logprobs})


def final_chunk(call: Call, call_id: str, place: int, event: Event) -> dict[str, Any]:
    """Why the completion of an event ended."""
    part: dict[str, Any] = {"delta": {}} if call.is_chat else {"text": ""}
    reason = _reason(event.finish_reason)
    number = place * call.settings.n + event.index
    return _chunk(call, call_id, number, {**part, "finish_reason": reason})


def usage_chunk(call: Call, call_id: str, num_tokens: int) -> dict[str, Any]:
    """How many tokens a stream took."""
    head = _head(call, call_id, is_chunk=True)
    return {**head, "choices": [], "usage": _usage(call, num_tokens)}


def _choice(
    call: Call, number: int, prompt: Sequence[int], first: Completion, completion: Completion
) -> dict[str, Any]:
    logprobs = completion.logprobs or ()
    text = completion.text if call.is_generating else ""
    if call.is_chat:
        return {
            "index": number,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": _logprobs(call, logprobs) if completion.logprobs is not None else None,
            "finish_reason": _reason(completion.finish_reason),
        }
    shown = None
    if call.settings.prompt_logprobs is not None:
        known = (*(first.prompt_logprobs or ()), *logprobs)
        shown = completion_logprobs(call.model.tokenizer, known, first_id=prompt[0])
    elif completion.logprobs is not None:
        shown = _logprobs(call, logprobs)
    return {
        "index": number,
        "text": (_text_of(call, prompt) if call.echoes else "") + text,
        "logprobs": shown,
        "finish_reason": _reason(completion.finish_reason) if call.is_generating else "length",
    }


def _logprobs(call: Call, logprobs: Sequence[Any]) -> dict[str, Any]:
    spell = chat_logprobs if call.is_chat else completion_logprobs
    return spell(call.model.tokenizer, logprobs)


def _chunk(call: Call, call_id: str, number: int, part: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": number, "logprobs": None, "finish_reason": None, **part}
    usage = {"usage": None} if call.includes_usage else {}
    return {**_head(call, call_id, is_chunk=True), "choices": [choice], **usage}


def _head(
    call: Call, call_id: str, *, is_chunk: bool, created: int | None = None
) -> dict[str, Any]:
    kind = "text_completion"
    if call.is_chat:
        kind = "chat.completion.chunk" if is_chunk else "chat.completion"
    return {
        "id": call_id,
        "object": kind,
        "created": int(time.time()) if created is None else created,
        "model": call.model.name,
        "system_fingerprint": None,
    }


def _usage(call: Call, num_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": call.num_prompt_tokens,
        "completion_tokens": num_tokens,
        "total_tokens": call.num_prompt_tokens + num_tokens,
    }


def _text_of(call: Call, ids: Sequence[int]) -> str:
    tokenizer = call.model.tokenizer
    return tokenizer.decode([token_id for token_id in ids if token_id < tokenizer.vocab_size])


def _reason(reason: str | None) -> str | None:
    """The API knows of no context that is full."""
    return "length" if reason == "context" else reason
