"""What each step of cleaning takes away, and what it leaves."""

import re
import time
from pathlib import Path

import numpy as np
import pytest

from weldlm.data.cleaning import RULE_SETS, RULES, Cleaner, CleanSettings, build_steps
from weldlm.data.cleaning.characters import normalize, remove_control_characters
from weldlm.data.cleaning.contamination import EvaluationTexts
from weldlm.data.cleaning.redaction import REDACTIONS
from weldlm.data.cleaning.repetition_rules import repeated_share, top_share
from weldlm.data.cleaning.word_runs import hash_runs, hash_words
from weldlm.data.corpus import Document
from weldlm.data.sources import read_evaluation

PROSE = (
    "The harbor was quiet that morning, and the boats lay with their bows to the tide. "
    "Nobody had come down to the quay since the storm, which took the roof of the old "
    "warehouse and left its beams to the gulls. A boy with a bucket walked along the wall, "
    "looking for crabs between stones that were still wet. He did not hear the bell. "
)


def clean(text: str, *, is_web_page: bool = False, **settings: object) -> str | None:
    steps = build_steps(CleanSettings(**settings))  # type: ignore[arg-type]  # of any field
    return Cleaner(steps).clean(Document("a", text, is_web_page))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a\r\nb\rc\n", "a\nb\nc\n"),
        ("a\x00b\x07c\x1b[0m", "abc[0m"),
        ("\ufeffa\u200bb\u202ec", "abc"),
        ("tab\tstays", "tab\tstays"),
        ("a\u200db", "a\u200db"),
        ("a\u2028b\x85c", "a\nb\nc"),
    ],
    ids=["line-ends", "controls", "invisible", "tab", "joiner", "separators"],
)
def test_what_nobody_sees_is_removed(text: str, left: str) -> None:
    assert remove_control_characters(text) == left


def test_a_character_has_one_spelling() -> None:
    assert normalize("e\u0301 \ufb01", "NFC") == "\u00e9 \ufb01"
    assert normalize("e\u0301 \ufb01", "NFKC") == "\u00e9 fi"


def test_wrongly_decoded_text_is_mended() -> None:
    pytest.importorskip("ftfy", reason="the extra `data`")
    right = "caf\u00e9 \u2014 na\u00efve"
    other = "\u201cquotes\u201d &amp; \ufb01sh stay as they are"

    assert clean(right.encode().decode("cp1252"), repair=True) == right
    assert clean(other, repair=True) == other


def test_content_of_a_web_page_stays() -> None:
    pytest.importorskip("trafilatura", reason="the extra `data`")
    more = "Nothing else was to be seen that day but the water, and what the water had left there."
    page = (
        "<html><head><title>T</title><script>let a = 1</script></head><body><nav><a href='/'>Home"
        f"</a><a href='/b'>About us</a></nav><article><h1>Harbor</h1><p>{PROSE}</p><p>{more}"
        "</p></article><footer>Copyright 2020 All rights reserved</footer></body></html>"
    )

    text = clean(page, is_web_page=True)

    assert text is not None
    assert text.split("\n") == ["Harbor", PROSE.strip(), more]
    assert clean(page) == page


@pytest.mark.parametrize(
    ("rule", "text", "left"),
    [
        ("c4_policies", "a\nWe use cookies.\nb", "a\nb"),
        ("c4_javascript", "a\nPlease enable JavaScript\nb", "a\nb"),
        ("c4_citations", "It is so.[12] Or not[citation needed]. a[b]", "It is so. Or not. a[b]"),
        ("c4_punctuation", 'One.\nMenu\n\nTwo!\n"Three"', 'One.\n\nTwo!\n"Three"'),
        ("c4_short_lines", "too few words\nthere are five words here", "there are five words here"),
        ("c4_lorem_ipsum", "x Lorem ipsum dolor", None),
        ("c4_braces", "int main() { }", None),
        ("c4_sentences", "One. Two is 3.5 long.", None),
        ("c4_sentences", "One. Two! Three?", "One. Two! Three?"),
        ("gopher_words", "a " * 49, None),
        ("gopher_words", "a " * 50, "a " * 50),
        ("gopher_words", "a " * 100_001, None),
        ("gopher_word_length", "a bc " * 9, None),
        ("gopher_word_length", "internationalization " * 9, None),
        ("gopher_symbols", "# one two three four", None),
        ("gopher_symbols", "one two ... three", None),
        ("gopher_symbols", "# " + "word " * 10, "# " + "word " * 10),
        ("gopher_bullets", "- a\n* b\n\u2022 c", None),
        ("gopher_bullets", "- a\nb\n- c", "- a\nb\n- c"),
        ("gopher_ellipses", "a...\nb\u2026\nc", None),
        ("gopher_ellipses", "a...\nb\nc\nd", "a...\nb\nc\nd"),
        ("gopher_letters", "1 2 three four five", None),
        ("gopher_letters", "1 two three four five", "1 two three four five"),
        ("gopher_stop_words", "the quick brown fox", None),
        ("gopher_stop_words", "The fox and hound", "The fox and hound"),
        ("gopher_lines", "a line\nb line\na line", None),
        ("gopher_paragraphs", "a\n\nb\n\na", None),
        ("gopher_top_ngrams", "one two one two three", None),
        ("gopher_top_ngrams", "one two three four", "one two three four"),
        ("gopher_ngrams", "a b c d e f a b c d e", None),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "gone",
)
def test_rule_does_what_it_says(rule: str, text: str, left: str | None) -> None:
    assert clean(text, rules=(rule,)) == left


@pytest.mark.parametrize("name", RULE_SETS)
def test_prose_passes_every_set_of_rules(name: str) -> None:
    assert clean(PROSE, rules=(name,)) == PROSE


def test_a_rule_of_a_set_is_left_out() -> None:
    few = "The fox and the hound."

    assert clean(few, rules=("gopher",)) is None
    assert clean(few, rules=("gopher",), without=("gopher_words",)) == few


def share_by_hand(words: list[str], length: int, *, only_top: bool) -> float:
    runs = [tuple(words[begin : begin + length]) for begin in range(len(words) - length + 1)]
    counts = {run: runs.count(run) for run in runs}
    most = max(counts.values())
    if only_top:
        sizes = [len("".join(run)) * most for run in counts if counts[run] == most > 1]
        return max(sizes, default=0) / len("".join(words))
    covered = {
        place
        for begin, run in enumerate(runs)
        if counts[run] > 1
        for place in range(begin, begin + length)
    }
    return sum(len(words[place]) for place in covered) / len("".join(words))


@pytest.mark.parametrize("length", [2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_shares_of_what_recurs_are_those_counted_by_hand(length: int, seed: int) -> None:
    draws = np.random.default_rng(seed)
    words = ["a" * int(size) for size in draws.integers(1, 4, 41)]
    lengths = np.array([len(word) for word in words])
    hashes = hash_words(words)

    assert top_share(hashes, lengths, length) == share_by_hand(words, length, only_top=True)
    assert repeated_share(hashes, lengths, length) == share_by_hand(words, length, only_top=False)


def test_equal_runs_of_words_have_equal_numbers() -> None:
    words = ["a", "b", "c", "a", "b", "c", "d"]
    runs = hash_runs(hash_words(words), 3)

    assert [runs.tolist().index(run) for run in runs.tolist()] == [0, 1, 2, 0, 4]
    assert len(hash_runs(hash_words(words), 8)) == 0


@pytest.mark.parametrize(
    ("secret", "text", "left"),
    [
        ("email", "to jo.doe+x@mail.example.org.", "to <EMAIL>."),
        ("email", "a @ b, @name, x@y", "a @ b, @name, x@y"),
        ("ip", "at 8.8.8.8, port 53", "at <IP>, port 53"),
        ("ip", "2606:4700:4700::1111 is", "<IP> is"),
        ("ip", "127.0.0.1 192.168.1.1 1.2.3.4.5 999.1.1.1 std::a 12:30:45", None),
        ("phone", "call +49 (0)30 1234567 now", "call <PHONE> now"),
        ("phone", "call (555) 123-4567, 555-123-4567", "call <PHONE>, <PHONE>"),
        ("phone", "in 2001-2002, 1234567890, 3.1415926535, +1", None),
        ("key", "AKIAIOSFODNN7EXAMPLE and", "<KEY> and"),
        ("key", "ghp_" + "a1B2" * 9, "<KEY>"),
        ("key", "-----BEGIN RSA PRIVATE KEY-----\nMIIB+/=\n-----END RSA PRIVATE KEY-----", "<KEY>"),
        ("key", "eyJhbGciOiJI.eyJzdWIiOiIx.abcdefgh_-", "<KEY>"),
        ("key", "skeleton sk-short, a commit 0123456789abcdef0123456789abcdef01234567", None),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else "stays",
)
def test_what_names_or_opens_gives_way(secret: str, text: str, left: str | None) -> None:
    assert clean(text, redact=(secret,)) == (text if left is None else left)


@pytest.mark.parametrize("secret", REDACTIONS)
@pytest.mark.parametrize(
    "piece", ["a", "1", "a.", "1.", "+1 ", "1:", "@", "a@", "-", "eyJ", "BEGIN ", "(1) "]
)
def test_redaction_takes_time_linear_in_the_text(secret: str, piece: str) -> None:
    text = piece * (200_000 // len(piece))
    began = time.process_time()

    REDACTIONS[secret](text)

    assert time.process_time() - began < 2


def test_samples_do_not_show_what_was_redacted() -> None:
    cleaner = Cleaner(build_steps(CleanSettings(redact=("email",))))

    cleaner.clean(Document("a", "write to jo@example.org"))

    count = cleaner.tally.steps["redact_email"]
    assert (count.changed, count.samples) == (1, [])


def test_only_texts_in_the_language_stay() -> None:
    pytest.importorskip("py3langid", reason="the extra `data`")
    german = "Der Hafen war an diesem Morgen still, und die Boote lagen mit dem Bug zur Flut."

    both = Cleaner(build_steps(CleanSettings(languages=("en", "de"))))
    english = Cleaner(build_steps(CleanSettings(languages=("en",))))

    assert [both.clean(Document("a", text)) for text in (PROSE, german)] == [PROSE, german]
    assert [english.clean(Document("a", text)) for text in (PROSE, german)] == [PROSE, None]


def test_unknown_language_is_refused() -> None:
    pytest.importorskip("py3langid", reason="the extra `data`")

    with pytest.raises(ValueError, match="languages holds 'xx'; expected any of ace, af, "):
        build_steps(CleanSettings(languages=("xx",)))


def test_texts_of_evaluation_sets_are_found(tmp_path: Path) -> None:
    question = "which port did the boats of the harbor come from that quiet morning in spring"
    (tmp_path / "q.jsonl").write_text(f'{{"q": "{question}", "choices": ["short", "a b c d e f"]}}')
    known = EvaluationTexts(read_evaluation(tmp_path / "q.jsonl"), 13)

    shared = "Lead. " + " ".join(question.upper().split()[1:]) + ", he asked."
    assert known.refuse_known(shared) is None
    assert known.refuse_known(" ".join(question.split()[2:-1])) is not None
    assert known.refuse_known("x, A B C: d e f!") is None
    assert known.refuse_known("short short") is not None
    assert known.refuse_known("") == ""


@pytest.mark.parametrize(
    "settings",
    [{"rules": ("goffer",)}, {"without": ("c4",)}, {"redact": ("name",)}, {"normalization": "nfd"}],
    ids=lambda settings: next(iter(settings)),
)
def test_unknown_names_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=re.escape(next(iter(settings)))):
        clean("text", **settings)


def test_every_rule_says_what_it_removes() -> None:
    assert all(rule.about and rule.name == name for name, rule in RULES.items())
