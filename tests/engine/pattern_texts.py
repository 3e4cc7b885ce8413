"""Texts that meet the borders of patterns, of every script."""

import functools
import random
import sys
import unicodedata

import hypothesis.strategies as st

CODE_POINTS = [code for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]

# parts that meet at the borders of the patterns, old enough that every library knows their class
PARTS = [
    *("a", "B", "s", "t", "re", "ve", "ll", "d", "m", "'", "'s", "'LL", "'\u017f", "\u2019", "'tT"),
    *(" ", "  ", "\n", "\t", "\r\n", "\x0b", "\x1c", "\x85", "\xa0", "\u2003", "\u2028", "\u3000"),
    *("0", "7", "123", "\xbd", "\u0663", "\u2167", "!", "?", "==", "_", "\\", "/", "//", "\ufeff"),
    *("\xe9", "\u4e2d\u6587", "\u0e01\u0e33", "\U0001f600", "\U0001f468\u200d\U0001f469", "\x00"),
    *("\u0301", "\u01c5", "\u02b0", "\u03a9", "\xdf", "hello", " World", " the"),
    "<|endoftext|>",
]
KNOWN_TEXTS = st.lists(st.sampled_from(PARTS), max_size=40).map("".join)
ANY_TEXTS = st.one_of(
    KNOWN_TEXTS,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.text(st.sampled_from("ab \n'1A"), max_size=200),
)


@functools.cache
def multilingual_text() -> str:
    """Words of each script, by the first word of the names of its letters."""
    scripts: dict[str, list[str]] = {}
    for character in map(chr, CODE_POINTS):
        if unicodedata.category(character)[0] in "LMN":
            script = unicodedata.name(character, "UNNAMED").split(" ")[0]
            scripts.setdefault(script, []).append(character)
    source = random.Random(0)
    lines = [
        " ".join("".join(source.choices(letters, k=source.randint(1, 9))) for _ in range(60))
        for letters in scripts.values()
    ]
    return "\n".join(lines)


def fuzz_texts(number: int) -> list[str]:
    """Random texts, the same ones each time."""
    source = random.Random(1)
    return [fuzz_text(source) for _ in range(number)]


def fuzz_text(source: random.Random) -> str:
    """Code points of any plane or the first ones, runs of few characters, or parts that meet."""
    match source.randrange(4):
        case 0:
            return "".join(map(chr, source.choices(CODE_POINTS, k=source.randint(1, 20))))
        case 1:
            return "".join(map(chr, source.choices(CODE_POINTS[:0x3000], k=source.randint(1, 30))))
        case 2:
            return "".join(source.choices("ab \n'1=A", k=source.randint(1, 300)))
    return "".join(source.choices(PARTS, k=source.randint(1, 25)))
