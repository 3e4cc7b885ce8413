"""Random texts through every vocabulary that is present, against the library that made its file.

    python -m benchmarks.tokenizer_fuzz --strings 1000000 [--vocabulary NAME ...] [--seed N]

WELDLM_TEST_DATA and WELDLM_VOCABULARIES name the folders of the vocabularies. The strings are
split evenly over them: blocks of all code points in turn, random ones, lone surrogates, special
tokens in the text, runs of white space and digits, slices of real texts with a few edits. Compared
are the ids with special tokens as plain text and in effect, the text of the ids, and the places of
the tokens where the oracle has them. Mismatches are printed with the shortest text that still
shows them; after any the exit code is 1.

The oracles know different Unicode versions. No code point is left out for it, because each table is
made from what its oracle answers:
    tiktoken 0.14, and the patterns of tokenizers 0.23: 16
    tokenizers 0.23, Digits and grapheme clusters: 17
    tokenizers 0.23, BERT's categories: 8; decompositions: 9; lower case: that of its compiler
    sentencepiece 0.2: whatever the charsmap of the .model says
Another version of an oracle may therefore differ in characters that are newer than these. What is
known to differ: tokenizers and sentencepiece refuse lone surrogates, so every oracle is asked about
the text in which they are U+FFFD, and not about places in it; the places that sentencepiece gives
to tokens of single bytes follow another convention and are not compared.
"""

import argparse
import functools
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.fuzz_pairs import FuzzPair, all_pairs
from tests.engine.pattern_texts import CODE_POINTS, fuzz_text, multilingual_text
from tests.engine.tokenizer_oracles import DATA, standard_library_texts

__all__ = ["Outcome", "fuzz", "shortest", "texts"]

_BLOCK = 64  # code points of one text of the sweep
_SECONDS_BETWEEN_LINES = 30
_KEPT_MISMATCHES = 5  # of each vocabulary
_SPACES = " \t\n\r\x0b\x0c\x85\xa0\u1680\u2003\u2028\u202f\u205f\u3000"
_SURROGATES = "a\ud800\udbff\udc00\udfff\U0001f600 1\n"


@dataclass(slots=True)
class Outcome:
    """What a vocabulary showed."""

    num_texts: int = 0
    seconds: float = 0.0
    num_mismatches: int = 0
    mismatches: list[tuple[str, str]] = field(default_factory=list)  # view and shortest text


def fuzz(pair: FuzzPair, num_texts: int, source: random.Random) -> Outcome:
    """Compares both sides on so many texts; prints how far it is now and then."""
    outcome = Outcome()
    begin = last = time.monotonic()
    for text in texts(num_texts, pair.special_tokens, source):
        outcome.num_texts += 1
        for view in pair.theirs:
            if differs(pair, view, text):
                outcome.num_mismatches += 1
                if len(outcome.mismatches) < _KEPT_MISMATCHES:
                    outcome.mismatches.append((view, shortest(pair, view, text)))
        if time.monotonic() - last > _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            rate = outcome.num_texts / (last - begin)
            print(f"  {pair.name}: {outcome.num_texts} of {num_texts}, {rate:.0f}/s", flush=True)
    outcome.seconds = time.monotonic() - begin
    return outcome


def differs(pair: FuzzPair, view: str, text: str) -> bool:
    """Whether the two sides give other answers; the oracle is asked about the repaired text."""
    repaired = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    # places in a text of other characters are other places
    if view in ("places", "starts") and repaired != text:
        return False
    return pair.ours[view](text) != pair.theirs[view](repaired)


def shortest(pair: FuzzPair, view: str, text: str) -> str:
    """Leaves out parts of the text as long as the two sides still differ."""
    size = len(text) // 2
    while size > 0:
        start = 0
        while start < len(text):
            rest = text[:start] + text[start + size :]
            if rest and differs(pair, view, rest):
                text = rest
            else:
                start += size
        size //= 2
    return text


def texts(num_texts: int, special_tokens: Sequence[str], source: random.Random) -> Iterator[str]:
    """Every code point in blocks as far as the number allows, then texts of the other kinds."""
    corpus = real_text()
    blocks = range(0, len(CODE_POINTS), _BLOCK)
    swept = list(blocks) if len(blocks) <= num_texts // 2 else source.sample(blocks, num_texts // 2)
    for start in swept:
        joint = source.choice(["", " ", "a", "1", "\n", "a ", "!"])
        yield joint.join(map(chr, CODE_POINTS[start : start + _BLOCK]))
    for _ in range(num_texts - len(swept)):
        match source.randrange(6):
            case 0:
                yield "".join(source.choices(_SURROGATES, k=source.randint(1, 12)))
            case 1:
                yield runs(source)
            case 2:
                yield edited(corpus, special_tokens, source)
            case 3 if special_tokens:
                yield with_specials(fuzz_text(source), special_tokens, source)
            case _:
                yield fuzz_text(source)


@functools.cache
def real_text() -> str:
    """English, Python and words of every script, whatever of it is there."""
    paths = sorted((DATA / "text").glob("*.txt"))
    english = [path.read_text(encoding="utf-8", errors="replace")[:1_000_000] for path in paths]
    return "".join([*english, *standard_library_texts(40), multilingual_text()])


def runs(source: random.Random) -> str:
    """Runs of white space, digits and other characters."""
    parts = [
        source.choice([*_SPACES, *"0123456789", "\u0663", "a", "!", "'s", "="])
        * source.choice([1, 1, 2, 3, 4, 7, source.randint(8, 90)])
        for _ in range(source.randint(1, 12))
    ]
    return "".join(parts)


def edited(corpus: str, special_tokens: Sequence[str], source: random.Random) -> str:
    """A slice of the corpus with some characters dropped, doubled, replaced or put in."""
    start = source.randrange(len(corpus))
    text = corpus[start : start + source.randint(1, 400)]
    for _ in range(source.randint(0, 4)):
        at = source.randrange(len(text) + 1)
        size = source.randint(0, 3)
        middle = source.choice(
            ["", text[at : at + size] * 2, chr(source.choice(CODE_POINTS)), fuzz_text(source)]
        )
        text = text[:at] + middle + text[at + size :]
    return with_specials(text, special_tokens, source) if source.random() < 0.1 else text


def with_specials(text: str, special_tokens: Sequence[str], source: random.Random) -> str:
    """The text with special tokens, whole and cut, somewhere in it."""
    for _ in range(source.randint(1, 3)):
        at = source.randrange(len(text) + 1)
        token = source.choice(special_tokens) if special_tokens else ""
        cut = source.randint(1, len(token)) if token and source.random() < 0.2 else len(token)
        text = text[:at] + source.choice(["", " ", "\n"]) + token[:cut] + text[at:]
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--strings", type=int, default=10_000, help="over all vocabularies")
    parser.add_argument("--vocabulary", action="append", help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    loaders = dict(all_pairs())
    names = arguments.vocabulary or list(loaders)
    unknown = [name for name in names if name not in loaders]
    if unknown or not names:
        parser.error(f"the vocabulary {unknown} is not there; there are {', '.join(loaders)}")
    num_mismatches = num_texts = 0
    for name in names:
        pair = loaders[name]()
        source = random.Random(f"{arguments.seed} {name}")
        outcome = fuzz(pair, -(-arguments.strings // len(names)), source)
        num_mismatches += outcome.num_mismatches
        num_texts += outcome.num_texts
        print(
            f"{name} against {pair.oracle}: {outcome.num_texts} strings, "
            f"{outcome.num_mismatches} mismatches, {outcome.num_texts / outcome.seconds:.0f}/s",
            flush=True,
        )
        for view, text in outcome.mismatches:
            print(f"  {view} of {text!a}")
    print(f"{num_texts} strings, {num_mismatches} mismatches")
    sys.exit(1 if num_mismatches else 0)


if __name__ == "__main__":
    main()
