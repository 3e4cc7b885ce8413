"""Which columns of a table hold the texts and which the label: as told, by name, or by content."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from weldlm.data.column_names import (
    ANSWER_NAMES,
    LABEL_NAMES,
    PAIR_NAMES,
    PROMPT_NAMES,
    SOURCE_NAMES,
    TAG_NAMES,
    TARGET_NAMES,
    TEXT_NAMES,
    WORD_NAMES,
    find_name,
)
from weldlm.data.rows import Row

__all__ = ["Columns", "find_columns"]

_NO_HINT = "name them with text_columns and label_column"
_FEWEST_ROWS = 10  # of which the first can be told from the others


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the texts of a row stand, and its label."""

    texts: tuple[str, ...]
    label: str | None

    def __str__(self) -> str:
        label = "none" if self.label is None else self.label
        return f"text from {', '.join(self.texts)}; label from {label}"


def find_columns(
    rows: Sequence[Row],
    kind: str,
    *,
    texts: Sequence[str] = (),
    label: str | None = None,
    needs_label: bool = True,
) -> Columns:
    """Finds the columns of rows that were read.

    Args:
        rows: at least one.
        kind: "texts", "numbers", "words", "questions", "targets" or "chats".
        texts: columns that the caller named.
        label: the column that the caller named.
        needs_label: rows without one are of no use.

    Raises:
        ValueError: a named column does not exist, or which is which cannot be told.
    """
    columns = list(rows[0].fields)
    _require(columns, [*texts, *([] if label is None else [label])], rows[0].place)
    names, labels = _names(columns, kind)
    found_texts = tuple(texts) or names
    is_free = kind == "chats" or labels not in found_texts  # messages hold their own labels
    found_label = label or (labels if is_free else None)
    if not found_texts and columns == [str(number) for number in range(1, len(columns) + 1)]:
        return _by_content(rows, columns, found_label, kind, needs_label=needs_label)
    if not found_texts or (needs_label and found_label is None):
        what = "texts" if not found_texts else "labels"
        raise ValueError(
            f"{rows[0].place}: none of the columns {', '.join(columns)} is known to hold {what}; "
            f"{_NO_HINT}"
        )
    return Columns(found_texts, found_label)


def _names(columns: Sequence[str], kind: str) -> tuple[tuple[str, ...], str | None]:
    """The columns that have usual names."""
    match kind:
        case "texts" | "numbers":
            return _text_or_pair(columns), find_name(columns, LABEL_NAMES)
        case "words":
            return _all_of(columns, WORD_NAMES), find_name(columns, TAG_NAMES)
        case "questions":
            question, context = find_name(columns, ("question",)), find_name(columns, ("context",))
            named = (question, context) if question and context else ()
            return named, find_name(columns, ("answers", "answer"))
        case "targets":
            return _all_of(columns, SOURCE_NAMES), find_name(columns, TARGET_NAMES)
        case "chats":
            if found := find_name(columns, ("messages", "conversations")):
                return (found,), found
            prompts = _all_of(columns, PROMPT_NAMES)
            if find_name(columns, ("instruction",)) and find_name(columns, ("input",)):
                prompts = (*prompts, *_all_of(columns, ("input",)))
            return prompts, find_name(columns, ANSWER_NAMES)
    raise ValueError(f"kind is {kind!r}; expected texts, numbers, words, questions, targets, chats")


def _text_or_pair(columns: Sequence[str]) -> tuple[str, ...]:
    for pair in PAIR_NAMES:
        first, second = (find_name(columns, (name,)) for name in pair)
        if first is not None and second is not None:
            return first, second
    return _all_of(columns, TEXT_NAMES)


def _all_of(columns: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    found = find_name(columns, names)
    return () if found is None else (found,)


def _by_content(
    rows: Sequence[Row],
    columns: Sequence[str],
    label: str | None,
    kind: str,
    *,
    needs_label: bool,
) -> Columns:
    """Of a table without a header: the column with the fewest different values is the label's."""
    if label is None and len(columns) > 1:
        label = _label_column(rows, columns, kind)
    texts = tuple(column for column in columns if column != label)
    is_missing = needs_label and label is None
    if is_missing or not texts or len(texts) > 2:
        raise ValueError(
            f"{rows[0].place} has {len(columns)} columns and no header; expected a text or two"
            f"{' and a label' if needs_label else ''}; {_NO_HINT}, by their numbers from 1"
        )
    return Columns(texts, label)


def _label_column(rows: Sequence[Row], columns: Sequence[str], kind: str) -> str:
    if kind == "targets":
        return columns[-1]
    if kind == "numbers":
        return max(columns, key=lambda column: sum(map(_is_number, _cells(rows, column))))
    counts = {column: Counter(_cells(rows, column)) for column in columns}
    label = min(columns, key=lambda column: len(counts[column]))
    first = rows[0].fields[label]
    others = [count for value, count in counts[label].items() if value != first]
    if len(rows) >= _FEWEST_ROWS and counts[label][first] == 1 and others and min(others) > 1:
        raise ValueError(
            f"{rows[0].place} may be a header: {first!a} is a label of no other row; name its "
            "columns with text_columns and label_column, or, if it is a row, number them from 1"
        )
    return label


def _cells(rows: Sequence[Row], column: str) -> list[str]:
    return [row.fields[column] for row in rows]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _require(columns: Sequence[str], named: Sequence[str], place: str) -> None:
    for name in named:
        if name not in columns:
            known = ", ".join(columns)
            raise ValueError(f"{place} has no column {name!r}; expected one of {known}")
