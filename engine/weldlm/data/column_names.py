"""Names of columns that people give to texts and labels, and how a header is known by them."""

from collections.abc import Sequence

__all__ = [
    "ANSWER_NAMES",
    "LABEL_NAMES",
    "PAIR_NAMES",
    "PROMPT_NAMES",
    "SOURCE_NAMES",
    "TAG_NAMES",
    "TARGET_NAMES",
    "TEXT_NAMES",
    "WORD_NAMES",
    "find_name",
    "is_header",
]

# in the order of preference
TEXT_NAMES = ("text", "sentence", "review", "content", "comment", "tweet", "document", "body")
PAIR_NAMES = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("question1", "question2"),
    ("text", "text_pair"),
)
LABEL_NAMES = ("label", "labels", "class", "category", "sentiment", "target", "score", "similarity")
WORD_NAMES = ("words", "tokens")
TAG_NAMES = ("tags", "ner_tags", "labels", "pos_tags")
SOURCE_NAMES = ("source", "src", "input", "article", "document", "text")
TARGET_NAMES = ("target", "tgt", "output", "summary", "highlights", "translation")
PROMPT_NAMES = ("prompt", "instruction", "question", "input")
ANSWER_NAMES = ("answer", "response", "completion", "output", "chosen")

_TELLING = {
    *TEXT_NAMES, *LABEL_NAMES, *WORD_NAMES, *TAG_NAMES, *SOURCE_NAMES, *TARGET_NAMES,
    *PROMPT_NAMES, *ANSWER_NAMES, *(name for pair in PAIR_NAMES for name in pair),
}  # fmt: skip


def is_header(cells: Sequence[str], named: Sequence[str] = ()) -> bool:
    """Whether the first line of a table names its columns.

    It does where a cell is a name that the caller asks for, or where one is a name that texts or
    labels usually have and no cell is empty, a number, or several words.
    """
    names = [cell.strip() for cell in cells]
    if not set(names).isdisjoint(named):
        return True
    is_telling = any(name.lower() in _TELLING for name in names)
    return is_telling and all(_is_name(name) for name in names)


def find_name(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The column with the first of these names, in any case of letters; None if there is none."""
    by_name = {column.lower(): column for column in reversed(columns)}
    return next((by_name[name] for name in names if name in by_name), None)


def _is_name(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return len(cell.split()) == 1
    return False
