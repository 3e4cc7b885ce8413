"""A chat as segments, of which those that come from the caller are not trusted.

The texts of the caller go through the template as marks, and the result must be what they would
have given, spelled as they are or as JSON spells them. Left as they are: the roles and types that
templates choose by, names of fields, and, but for contents, texts that no special token can have a
part of.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from weldlm.tokenizer.chat_template import Messages, render_chat

__all__ = ["render_segments"]

_ROLES = frozenset(
    ("system", "developer", "user", "assistant", "model", "tool", "function", "ipython",
     "observation", "context", "documents", "environment", "tool_call", "tool_response")
)  # fmt: skip
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def render_segments(
    template: str,
    messages: Messages,
    *,
    guarded: Collection[str],
    special_tokens: Mapping[str, str],
    add_generation_prompt: bool,
    variables: Mapping[str, Any],
) -> list[tuple[str, bool]]:
    """Renders a chat as (text, is_trusted) segments.

    Args:
        template: Jinja source.
        messages: with "role" and "content".
        guarded: special tokens that the caller's texts must not make.
        special_tokens: text of each role, such as "bos_token".
        add_generation_prompt: end with what begins the assistant's answer.
        variables: what else the template asks for, such as "tools".

    Raises:
        ValueError: the template changes a text, so that it cannot be told from the rest.
    """
    common: dict[str, Any] = {
        "special_tokens": special_tokens,
        "add_generation_prompt": add_generation_prompt,
    }
    expected = render_chat(template, messages, variables=variables, **common)
    marks = _Marks(_prefix_of(expected), guarded)
    marked = [
        {key: marks.in_message(key, value) for key, value in message.items()}
        for message in messages
    ]
    roles = {key: value for key, value in variables.items() if key in special_tokens}
    others = {key: marks.in_value(key, value) for key, value in variables.items()}
    rest = render_chat(template, marked, variables=others | roles, **common)
    return _segments(rest, expected, marks)


class _Marks:
    """Texts and what stands for them."""

    def __init__(self, prefix: str, guarded: Collection[str]) -> None:
        self.texts: list[str] = []
        self.pattern = re.compile(rf"<{prefix} (\d+)>")
        self._prefix = prefix
        self._guarded = [token.casefold() for token in guarded]

    def in_message(self, key: str, value: Any) -> Any:
        if key == "role" and isinstance(value, str) and value in _ROLES:
            return value
        return self._replaced(key, value, is_content=key == "content")

    def in_value(self, key: str, value: Any) -> Any:
        return self._replaced(key, value, is_content=False)

    def _replaced(self, key: object, value: Any, *, is_content: bool) -> Any:
        """`value` with marks in place of its texts."""
        if isinstance(value, str):
            if key == "type" and _NAME.fullmatch(value):
                return value
            return self._mark(value) if is_content or self._may_be_special(value) else value
        if isinstance(value, Mapping):
            return {
                self._key(inner): self._replaced(inner, part, is_content=is_content)
                for inner, part in value.items()
            }
        if isinstance(value, Sequence) and not isinstance(value, bytes):
            return [self._replaced(None, part, is_content=is_content) for part in value]
        return value

    def _key(self, key: Any) -> Any:
        is_text = isinstance(key, str) and not _NAME.fullmatch(key)
        return self._mark(key) if is_text and self._may_be_special(key) else key

    def _mark(self, text: str) -> str:
        self.texts.append(text)
        return f"<{self._prefix} {len(self.texts) - 1}>"

    def _may_be_special(self, text: str) -> bool:
        """Whether a special token can lie in `text` or, with what is around it, partly so."""
        text = text.casefold()
        return any(token in text or _overlaps(text, token) for token in self._guarded)


def _overlaps(text: str, token: str) -> bool:
    most = min(len(text), len(token) - 1)
    ends = any(text.endswith(token[:size]) for size in range(1, most + 1))
    begins = any(text.startswith(token[-size:]) for size in range(1, most + 1))
    return ends or begins or (bool(text) and text in token)


def _segments(rest: str, expected: str, marks: _Marks) -> list[tuple[str, bool]]:
    """`rest` with the texts in place of marks, where that is `expected`."""
    segments: list[tuple[str, bool]] = []
    place = 0  # in `expected`
    last = 0  # in `rest`
    for found in marks.pattern.finditer(rest):
        trusted = rest[last : found.start()]
        place += len(trusted)
        text = _spelled(marks.texts[int(found[1])], expected, place)
        segments += [(trusted, True), (text, False)]
        place += len(text)
        last = found.end()
    segments.append((rest[last:], True))
    if "".join(text for text, _ in segments) != expected:
        raise ValueError(
            "the chat template changes the contents of messages, or what else it was given, so "
            "their text cannot be kept apart; strip white space around them, or trust them"
        )
    return segments


def _spelled(text: str, expected: str, place: int) -> str:
    """The text as it stands at `place`: in JSON, which is never shorter, or as it is."""
    for is_ascii in (True, False):
        written = json.dumps(text, ensure_ascii=is_ascii)[1:-1]
        if expected.startswith(written, place):
            return written
    return text


def _prefix_of(text: str) -> str:
    """What marks begin with: it does not occur in `text`."""
    prefix = "content"
    while prefix in text:
        prefix += "-"
    return prefix
