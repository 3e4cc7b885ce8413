"""Rows of columns to typed rows; a row that lacks what its task needs says so."""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from weldlm.data.columns import Columns
from weldlm.data.labelled_rows import (
    Answer,
    Chat,
    LabelledText,
    LabelledWords,
    Question,
    SourceTarget,
)
from weldlm.data.rows import BadRow, Row
from weldlm.text_file import require_whole_characters

__all__ = ["to_chat", "to_number", "to_question", "to_target", "to_text", "to_words"]

_SHOWN = 40  # characters of a value in a message

T = TypeVar("T")


def to_text(row: Row, columns: Columns, *, needs_label: bool) -> LabelledText | BadRow:
    """A text or a pair, and its label."""
    return _checked(row, lambda: _text(row, columns, _label, needs_label=needs_label))


def to_number(row: Row, columns: Columns, *, needs_label: bool) -> LabelledText | BadRow:
    """A text or a pair, and a finite number."""
    return _checked(row, lambda: _text(row, columns, _number, needs_label=needs_label))


def to_words(row: Row, columns: Columns, *, needs_label: bool) -> LabelledWords | BadRow:
    """Words, and a tag for each."""

    def make() -> LabelledWords:
        words = _strings(row.fields[columns.texts[0]], "words")
        if not words or not all(words):
            raise ValueError("a word is empty, or there is none; expected words; mend it")
        value = _value(row, columns.label, needs_label=needs_label)
        tags = None if value is None else _strings(value, "tags")
        if tags is not None and len(tags) != len(words):
            raise ValueError(f"{len(words)} words and {len(tags)} tags; expected as many; mend it")
        return LabelledWords(row.place, words, tags)

    return _checked(row, make)


def to_question(row: Row, columns: Columns, *, needs_label: bool) -> Question | BadRow:
    """A question, its context, and the answers that stand there."""

    def make() -> Question:
        question, context = (_string(row, column) for column in columns.texts)
        value = _value(row, columns.label, needs_label=needs_label)
        answers = None if value is None else _answers(value, context)
        return Question(row.place, str(row.fields.get("id", row.place)), question, context, answers)

    return _checked(row, make)


def to_target(row: Row, columns: Columns, *, needs_label: bool) -> SourceTarget | BadRow:
    """A source, and its target."""

    def make() -> SourceTarget:
        target = None
        if _value(row, columns.label, needs_label=needs_label) is not None:
            target = _string(row, columns.label or "")
        return SourceTarget(row.place, _string(row, columns.texts[0]), target)

    return _checked(row, make)


def to_chat(row: Row, columns: Columns, *, needs_label: bool) -> Chat | BadRow:
    """Messages, or a prompt and its answer as two of them."""

    def make() -> Chat:
        value = row.fields[columns.texts[0]]
        if isinstance(value, list):
            messages = tuple(_message(part) for part in value)
        else:
            parts = [_string(row, columns.texts[0])]
            parts += [str(row.fields[column] or "") for column in columns.texts[1:]]
            prompt = "\n\n".join(part for part in parts if part)
            messages = ({"role": "user", "content": prompt},)
            if _value(row, columns.label, needs_label=needs_label) is not None:
                answer = _string(row, columns.label or "")
                messages = (*messages, {"role": "assistant", "content": answer})
        if needs_label and all(message["role"] != "assistant" for message in messages):
            raise ValueError("no message is of the assistant; expected one to learn; mend it")
        return Chat(row.place, messages)

    return _checked(row, make)


def _checked(row: Row, make: Callable[[], T]) -> T | BadRow:
    try:
        return make()
    except ValueError as error:
        return BadRow(row.place, str(error))


def _text(
    row: Row, columns: Columns, to_label: Callable[[Any], str], *, needs_label: bool
) -> LabelledText:
    first, *rest = (_string(row, column) for column in columns.texts)
    value = _value(row, columns.label, needs_label=needs_label)
    label = None if value is None else to_label(value)
    return LabelledText(row.place, first, rest[0] if rest else None, label)


def _value(row: Row, column: str | None, *, needs_label: bool) -> Any:
    value = None if column is None else row.fields.get(column)
    if value is None or value == "":
        if needs_label:
            raise ValueError(f"the row has nothing under {column!a}; expected its label; mend it")
        return None
    return value


def _string(row: Row, column: str) -> str:
    value = row.fields.get(column)
    if not isinstance(value, str) or not value.strip():
        shown = "nothing" if value in (None, "") else f"{value!a:.{_SHOWN}}"
        raise ValueError(f"the row has {shown} under {column!a}; expected a text; mend it")
    require_whole_characters(value, f"the text under {column!a}")
    return value


def _strings(value: Any, what: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(value.split())
    if not isinstance(value, list) or not all(isinstance(part, (str, int)) for part in value):
        raise ValueError(f"the {what} are {value!a:.{_SHOWN}}; expected a list of texts; mend it")
    words = tuple(str(part) for part in value)
    require_whole_characters("".join(words), f"the list of {what}")
    return words


def _label(value: Any) -> str:
    if not isinstance(value, (str, int, float)):
        raise ValueError(f"the label is {value!a:.{_SHOWN}}; expected a text or number; mend it")
    return str(value).strip()


def _number(value: Any) -> str:
    try:
        if not isinstance(value, bool) and math.isfinite(float(value)):
            return str(float(value))
    except (TypeError, ValueError):
        pass
    raise ValueError(f"the label is {value!a:.{_SHOWN}}; expected a finite number; mend it")


def _answers(value: Any, context: str) -> tuple[Answer, ...]:
    if isinstance(value, Mapping) and isinstance(value.get("text"), list):
        texts, starts = value["text"], value.get("answer_start")
        if not isinstance(starts, list) or len(starts) != len(texts):
            raise ValueError('"text" and "answer_start" differ in number; expected as many')
        value = [
            {"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)
        ]
    if not isinstance(value, list):
        raise ValueError(f"the answers are {value!a:.{_SHOWN}}; expected a list; mend it")
    return tuple(_answer(part, context) for part in value)


def _answer(part: Any, context: str) -> Answer:
    text, start = (
        (part.get("text"), part.get("answer_start")) if isinstance(part, dict) else (None, None)
    )
    if not isinstance(text, str) or not text or not isinstance(start, int):
        raise ValueError(
            f'an answer is {part!a:.{_SHOWN}}; expected {{"text": "...", "answer_start": 0}}'
        )
    if start < 0 or context[start : start + len(text)] != text:
        raise ValueError(
            f"the answer {text!a:.{_SHOWN}} does not stand at character {start} of its context; "
            "expected it there; mend answer_start"
        )
    return Answer(text, start)


def _message(part: Any) -> Mapping[str, str]:
    names = {"from": "role", "value": "content"}  # of another habit
    roles = {"human": "user", "gpt": "assistant"}
    message = {names.get(key, key): value for key, value in part.items()} if part else {}
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not isinstance(content, str):
        raise ValueError(
            f'a message is {part!a:.{_SHOWN}}; expected {{"role": "...", "content": "..."}}'
        )
    require_whole_characters(content, "a message")
    return {"role": roles.get(role, role), "content": content}
