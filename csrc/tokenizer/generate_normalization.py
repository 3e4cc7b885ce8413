"""Writes generated_normalization.hpp: what normalizers and BERT's pretokenizer ask of code points.

tokenizers 0.23 draws on three Unicode versions at once: 8 for the categories of BERT, 9 for
decompositions, and that of its Rust compiler for lower case and white space. So the answers are
those of the library itself, asked for every code point; the database of Python (any version from
9 on) only says what to ask. Needs tokenizers==0.23.*; run: python generate_normalization.py
"""

import unicodedata
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from tokenizers import normalizers, pre_tokenizers

LIBRARY_VERSION = "0.23"
BLOCK_SIZE = 256  # code points a block
SEPARATOR = "\u16a0"  # a rune: nothing changes it or is changed to it
PROBES_AT_ONCE = 1024
CODE_POINTS = [*range(0xD800), *range(0xE000, 0x110000)]
VOWELS_AND_TAILS = {*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)}  # of Hangul syllables

Mapping = dict[int, tuple[int, ...]]

# the bits of CharFlag in char_properties.hpp
DROPPED, SPACE, PUNCTUATION, NONSPACING, MARK, LOWERED, CHINESE = (1 << i for i in range(7))
CANONICAL_JOINS, COMPATIBLE_JOINS, REORDERED = (1 << i for i in range(7, 10))
NFC, NFD, NFKC, NFKD = (1 << i for i in range(10, 14))


def bert_normalizer(**options: bool) -> normalizers.Normalizer:
    off = {"clean_text": False, "handle_chinese_chars": False, "lowercase": False}
    return normalizers.BertNormalizer(**(off | {"strip_accents": False} | options))


def changes(normalizer: normalizers.Normalizer) -> Mapping:
    """What the normalizer makes of each code point that it changes."""
    changed: Mapping = {}
    for start in range(0, len(CODE_POINTS), PROBES_AT_ONCE):
        part = [code for code in CODE_POINTS[start : start + PROBES_AT_ONCE] if code != ord(SEPARATOR)]
        results = normalizer.normalize_str(SEPARATOR.join(map(chr, part))).split(SEPARATOR)
        for code, result in zip(part, results, strict=True):
            if result != chr(code):
                changed[code] = tuple(map(ord, result))
    return changed


def splits(wanted: Callable[[list[str]], bool]) -> set[int]:
    """The code points between two letters for which BERT's pieces are as wanted."""
    bert = pre_tokenizers.BertPreTokenizer()
    return {
        code
        for code in CODE_POINTS
        if wanted([piece for piece, _ in bert.pre_tokenize_str(f"a{chr(code)}a")])
    }


def combining_classes() -> dict[int, int]:
    """Those that are not 0; a code point that the library does not know has none."""
    nfd = normalizers.NFD()
    classes: dict[int, int] = {}
    for code in CODE_POINTS:
        char, number = chr(code), unicodedata.combining(chr(code))
        # one of a lower class moves to the front: 230 of U+0301, 1 of U+0334
        probe = "\u0301" + char if 0 < number < 230 else char + "\u0334"
        if (number != 0 and number != 1 and nfd.normalize_str(probe) != probe) or (number == 1 and nfd.normalize_str("\u0301" + char) != "\u0301" + char):
            classes[code] = number
    return classes


def compositions() -> dict[tuple[int, int], int]:
    nfc = normalizers.NFC()
    composed: dict[tuple[int, int], int] = {}
    for code in CODE_POINTS:
        fields = unicodedata.decomposition(chr(code)).split()
        if len(fields) == 2 and not fields[0].startswith("<"):
            first, second = (int(field, 16) for field in fields)
            if nfc.normalize_str(chr(first) + chr(second)) == chr(code):
                composed[first, second] = code
    return composed


class Properties:
    """The flags and the combining class of every code point."""

    def __init__(self) -> None:
        self.classes = combining_classes()
        self.compositions = compositions()
        self.nfd = changes(normalizers.NFD())
        self.nfkd = changes(normalizers.NFKD())
        self.lowered = changes(normalizers.Lowercase())
        self.stripped = changes(bert_normalizer(strip_accents=True))
        cleaned = changes(bert_normalizer(clean_text=True))
        self.codes_of_flag = {
            DROPPED: {code for code, result in cleaned.items() if not result},
            SPACE: splits(lambda pieces: pieces == ["a", "a"]),
            PUNCTUATION: splits(lambda pieces: len(pieces) == 3),
            NONSPACING: {code for code, result in self.stripped.items() if not result},
            MARK: {c for c, result in changes(normalizers.StripAccents()).items() if not result},
            LOWERED: set(self.lowered),
            CHINESE: set(changes(bert_normalizer(handle_chinese_chars=True))),
            CANONICAL_JOINS: self.joining(self.nfd),
            COMPATIBLE_JOINS: self.joining(self.nfkd),
            REORDERED: self.reordered(),
            NFC: set(changes(normalizers.NFC())),
            NFD: set(self.nfd),
            NFKC: set(changes(normalizers.NFKC())),
            NFKD: set(self.nfkd),
        }

    def joining(self, decompositions: Mapping) -> set[int]:
        """Those that may move or compose across the boundary before them."""
        composing = {second for _, second in self.compositions} | VOWELS_AND_TAILS
        moving = composing | set(self.classes)
        first = {code: decompositions.get(code, (code,))[0] for code in CODE_POINTS}
        return {code for code in CODE_POINTS if first[code] in moving}

    def reordered(self) -> set[int]:
        """Those of which stripping the accents leaves something that may have to move."""
        left = {code: self.stripped.get(code, (code,)) for code in CODE_POINTS}
        return {code for code in CODE_POINTS if any(part in self.classes for part in left[code])}

    def rows(self) -> list[tuple[int, int]]:
        """(flags, combining class) by code point."""
        flags = [0] * 0x110000
        for flag, codes in self.codes_of_flag.items():
            for code in codes:
                flags[code] |= flag
        return [(flags[code], self.classes.get(code, 0)) for code in range(0x110000)]


def array_source(kind: str, name: str, cells: list[str]) -> Iterator[str]:
    yield f"inline constexpr std::array<{kind}, {len(cells)}> {name} = {{\n"
    line = "   "
    for cell in cells:
        if len(line) + len(cell) + 2 > 98:
            yield line + "\n"
            line = "   "
        line += f" {cell},"
    yield line + "\n};\n\n"


def table_source(name: str, kind: str, values: list[int]) -> Iterator[str]:
    """A table in two stages: equal blocks are stored once."""
    blocks: dict[tuple[int, ...], int] = {}
    stage: list[str] = []
    for start in range(0, 0x110000, BLOCK_SIZE):
        block = tuple(values[start : start + BLOCK_SIZE])
        stage.append(str(blocks.setdefault(block, len(blocks))))
    yield from array_source("std::uint8_t", f"{name}_block_of", stage)
    yield from array_source(kind, f"{name}_cells", [str(cell) for b in blocks for cell in b])


def mapping_source(name: str, mapping: Mapping) -> Iterator[str]:
    """Cell i > 0 of a code point stands for parts offsets[i - 1] to offsets[i]."""
    values = [0] * 0x110000
    offsets, parts = [0], []
    for code, result in sorted(mapping.items()):
        values[code] = len(offsets)
        parts += result
        offsets.append(len(parts))
    yield from table_source(name, "std::uint16_t", values)
    yield from array_source("std::uint16_t", f"{name}_offsets", [str(o) for o in offsets])
    yield from array_source("char32_t", f"{name}_parts", [f"0x{part:x}" for part in parts])


def source(properties: Properties) -> Iterator[str]:
    rows = properties.rows()
    palette = {row: index for index, row in enumerate(dict.fromkeys(rows))}
    syllables = range(0xAC00, 0xD7A4)
    yield "// Generated by generate_normalization.py, which lies beside this file. Do not edit.\n"
    yield f"// What tokenizers {LIBRARY_VERSION} answers, of Unicode 8, 9 and its Rust compiler's.\n"
    yield "#pragma once\n\n#include <array>\n#include <cstdint>\n\n"
    yield "namespace weldlm::normalization_tables {\n\n"
    yield "// flags, and the combining class from bit 16 on\n"
    cells = [f"0x{flags | combining_class << 16:x}" for flags, combining_class in palette]
    yield from array_source("std::uint32_t", "properties", cells)
    yield from table_source("property", "std::uint8_t", [palette[row] for row in rows])
    yield "// Hangul syllables are not in the tables: their parts are computed\n"
    for name, mapping in (
        ("canonical", properties.nfd),
        ("compatible", properties.nfkd),
        ("lowered", properties.lowered),
    ):
        kept = {code: parts for code, parts in mapping.items() if code not in syllables}
        yield from mapping_source(name, kept)
    yield "// first << 32 | second, in order, and what the two compose to\n"
    pairs = sorted(properties.compositions.items())
    keys = [f"0x{first << 32 | second:x}" for (first, second), _ in pairs]
    yield from array_source("std::uint64_t", "composed_pairs", keys)
    yield from array_source("char32_t", "compositions", [f"0x{code:x}" for _, code in pairs])
    yield "}  // namespace weldlm::normalization_tables\n"


def main() -> None:
    if not version("tokenizers").startswith(LIBRARY_VERSION + "."):
        raise SystemExit(
            f"tokenizers is {version('tokenizers')}, expected {LIBRARY_VERSION}.*: its answers "
            "are what the table holds"
        )
    path = Path(__file__).with_name("generated_normalization.hpp")
    path.write_text("".join(source(Properties())), encoding="ascii")
    print(f"{path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
