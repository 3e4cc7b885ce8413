"""Chat messages to a prompt: the Jinja template of a model, run in a sandbox.

The names a template may use are those that transformers gives it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn, TypeAlias

__all__ = ["Messages", "render_chat", "render_segments"]

Messages: TypeAlias = Sequence[Mapping[str, Any]]


def render_chat(
    template: str,
    messages: Messages,
    *,
    special_tokens: Mapping[str, str],
    add_generation_prompt: bool,
    variables: Mapping[str, Any],
) -> str:
    """Renders a chat.

    Args:
        template: Jinja source.
        messages: with "role" and "content".
        special_tokens: text of each role, such as "bos_token".
        add_generation_prompt: end with what begins the assistant's answer.
        variables: what else the template asks for, such as "tools".

    Raises:
        ValueError: the template is broken or refuses the messages.
    """
    _require_messages(messages)
    compiled = _compiled(template)
    try:
        text: str = compiled.render(
            messages=messages,
            add_generation_prompt=add_generation_prompt,
            **{**special_tokens, **variables},
        )
    except Exception as error:  # whatever the code of a template does
        raise ValueError(f"the chat template refuses these messages: {error}") from error
    return text


def _require_messages(messages: Messages) -> None:
    if isinstance(messages, str) or not all(isinstance(message, Mapping) for message in messages):
        raise TypeError(
            "messages are not objects; expected a list of objects with 'role' and 'content'"
        )


def render_segments(template: str, messages: Messages, **options: Any) -> list[tuple[str, bool]]:
    """Renders a chat as (text, is_trusted) segments: the contents of messages are not trusted.

    Contents go through the template as marks, and the result must be what they would have given.

    Raises:
        ValueError: the template changes a content, so that it cannot be told from the rest.
    """
    expected = render_chat(template, messages, **options)
    texts: list[str] = []
    prefix = _mark_prefix(expected)

    def mark(text: str) -> str:
        texts.append(text)
        return f"<{prefix} {len(texts) - 1}>"

    marked = [
        {**message, "content": _with_marks(message["content"], mark)}
        if "content" in message
        else message
        for message in messages
    ]
    rest = render_chat(template, marked, **options)
    marks = [f"<{prefix} {index}>" for index in range(len(texts))]
    segments: list[tuple[str, bool]] = []
    while found := [(rest.find(mark), index) for index, mark in enumerate(marks) if mark in rest]:
        place, index = min(found)
        segments += [(rest[:place], True), (texts[index], False)]
        rest = rest[place + len(marks[index]) :]
    segments.append((rest, True))
    if "".join(text for text, _ in segments) != expected:
        raise ValueError(
            "the chat template changes the contents of messages, so their text cannot be kept "
            "apart; strip white space around them, or trust them"
        )
    return segments


def _with_marks(content: Any, mark: Callable[[str], str]) -> Any:
    """The content with a mark in place of each text: it is one, or has parts with texts.

    The "type" of a part is what templates choose by, not what they put into the prompt.
    """
    if isinstance(content, str):
        return mark(content)
    if isinstance(content, Mapping):
        return {
            key: value if key == "type" else _with_marks(value, mark)
            for key, value in content.items()
        }
    if isinstance(content, Sequence):
        return [_with_marks(part, mark) for part in content]
    return content


def _mark_prefix(text: str) -> str:
    """What marks begin with: it does not occur in `text`."""
    prefix = "content"
    while prefix in text:
        prefix += "-"
    return prefix


@lru_cache(maxsize=32)
def _compiled(template: str) -> Any:
    from jinja2 import TemplateSyntaxError, nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """{% generation %} marks what the assistant says; the text is the same."""

        tags = {"generation"}  # noqa: RUF012 (jinja2 declares it so)

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _now
    try:
        return environment.from_string(template)
    except TemplateSyntaxError as error:
        raise ValueError(f"the chat template is broken at line {error.lineno}: {error}") from error
    except RecursionError as error:
        raise ValueError("the chat template is broken: it nests too deep") from error


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _refuse(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)
