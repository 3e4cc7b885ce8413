"""Chat messages to a prompt: the Jinja template of a model, run in a sandbox.

The names a template may use are those that transformers gives it.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn, TypeAlias

__all__ = ["Messages", "render_chat"]

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
