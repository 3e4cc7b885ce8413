"""Rules that a text meets as a whole or does not."""

import re

__all__ = [
    "refuse_braces",
    "refuse_bullets",
    "refuse_ellipses",
    "refuse_lorem_ipsum",
    "refuse_symbols",
    "require_letters",
    "require_sentences",
    "require_stop_words",
    "require_word_length",
    "require_words",
]

_SENTENCE_END = re.compile("[.!?][\"'\u201d\u2019)]*(?=\\s|\\Z)")
_FEWEST_SENTENCES = 3
_FEWEST_WORDS, _MOST_WORDS = 50, 100_000
_SHORTEST, _LONGEST = 3, 10  # mean length of words
_MOST_SYMBOLS = 0.1  # for each word
_ELLIPSES = ("...", "\u2026")
_BULLETS = ("-", "*", "\u2022", "\u2023", "\u25aa", "\u25cf", "\u00b7")
_MOST_BULLETS, _MOST_ELLIPSES = 0.9, 0.3  # of the lines
_FEWEST_LETTERED = 0.8  # of the words
_STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
_FEWEST_STOP_WORDS = 2


def refuse_lorem_ipsum(text: str) -> str | None:
    """C4: filler."""
    return None if "lorem ipsum" in text.lower() else text


def refuse_braces(text: str) -> str | None:
    """C4: a curly bracket stands in many programming languages and hardly in prose."""
    return None if "{" in text else text


def require_sentences(text: str) -> str | None:
    """C4: three sentences."""
    return text if len(_SENTENCE_END.findall(text)) >= _FEWEST_SENTENCES else None


def require_words(text: str) -> str | None:
    """Gopher: 50 to 100,000 words."""
    return text if _FEWEST_WORDS <= len(text.split()) <= _MOST_WORDS else None


def require_word_length(text: str) -> str | None:
    """Gopher: words of 3 to 10 characters on average."""
    words = text.split()
    mean = sum(map(len, words)) / max(len(words), 1)
    return text if _SHORTEST <= mean <= _LONGEST else None


def refuse_symbols(text: str) -> str | None:
    """Gopher: more than 0.1 hash signs, or ellipses, for each word."""
    most = _MOST_SYMBOLS * len(text.split())
    num_ellipses = sum(text.count(sign) for sign in _ELLIPSES)
    return None if text.count("#") > most or num_ellipses > most else text


def refuse_bullets(text: str) -> str | None:
    """Gopher: more than 9 of 10 lines begin with a bullet."""
    lines = _lines(text)
    num = sum(line.startswith(_BULLETS) for line in lines)
    return None if num > _MOST_BULLETS * len(lines) else text


def refuse_ellipses(text: str) -> str | None:
    """Gopher: more than 3 of 10 lines end in an ellipsis."""
    lines = _lines(text)
    num = sum(line.endswith(_ELLIPSES) for line in lines)
    return None if num > _MOST_ELLIPSES * len(lines) else text


def require_letters(text: str) -> str | None:
    """Gopher: 4 of 5 words hold a letter."""
    words = text.split()
    num = sum(any(map(str.isalpha, word)) for word in words)
    return text if num >= _FEWEST_LETTERED * len(words) else None


def require_stop_words(text: str) -> str | None:
    """Gopher: two of eight words without which there is hardly English prose."""
    found = _STOP_WORDS.intersection(text.lower().split())
    return text if len(found) >= _FEWEST_STOP_WORDS else None


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]
