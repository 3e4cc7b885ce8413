"""Rules that take lines, or marks in them, out of a text."""

import re
from collections.abc import Callable

__all__ = [
    "drop_citations",
    "drop_javascript",
    "drop_policies",
    "drop_short_lines",
    "drop_unpunctuated",
]

_POLICIES = re.compile(
    "terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies",
    re.IGNORECASE,
)
_JAVASCRIPT = re.compile("javascript", re.IGNORECASE)
_CITATION = re.compile(r"\[\d{1,4}\]|\[edit\]|\[citation needed\]", re.IGNORECASE)
_ENDS = (".", "!", "?", '"', "\u201d")
_FEWEST_WORDS = 5


def drop_policies(text: str) -> str:
    """C4: lines of the notes that sites must show."""
    return _keep(text, lambda line: _POLICIES.search(line) is None)


def drop_javascript(text: str) -> str:
    """C4: lines that ask for a browser with Javascript."""
    return _keep(text, lambda line: _JAVASCRIPT.search(line) is None)


def drop_citations(text: str) -> str:
    """C4: marks that Wikipedia leaves in its text."""
    return _CITATION.sub("", text)


def drop_unpunctuated(text: str) -> str:
    """C4: lines that end in no terminal punctuation; empty ones stay."""
    return _keep(text, lambda line: line.rstrip().endswith(_ENDS) or not line.strip())


def drop_short_lines(text: str) -> str:
    """C4: lines of fewer than five words; empty ones stay."""
    return _keep(text, lambda line: len(line.split()) >= _FEWEST_WORDS or not line.strip())


def _keep(text: str, stays: Callable[[str], bool]) -> str:
    lines = text.split("\n")
    kept = [line for line in lines if stays(line)]
    return text if len(kept) == len(lines) else "\n".join(kept)
