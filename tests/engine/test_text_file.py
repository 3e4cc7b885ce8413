"""Text from outside is read or refused in one line that says what to do."""

import pytest

from weldlm.text_file import decode_text, parse_json, require_whole_characters


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"a\xc3\xbc", "a\u00fc"), (b"\xef\xbb\xbfa", "a"), (b"", ""), (b"a\0", "a\0")],
    ids=["plain", "byte-order-mark", "empty", "nul"],
)
def test_utf_8_is_decoded(data: bytes, text: str) -> None:
    assert decode_text(data, "x") == text


@pytest.mark.parametrize(
    ("data", "number"),
    [(b"abc\xff", 3), (b"\xef\xbb\xbfa\xff", 4), (b"\xff\xfea\0", 0), (b"\xed\xa0\x80", 0)],
    ids=["latin-1", "behind-a-mark", "utf-16", "surrogate"],
)
def test_first_byte_that_is_not_utf_8_is_named(data: bytes, number: int) -> None:
    with pytest.raises(ValueError, match=rf"^x is not UTF-8 \(byte {number} cannot be decoded\); "):
        decode_text(data, "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"is not valid JSON \(Expecting property name .*, column 2\)"),
        ("[" * 100_000, "is JSON nested too deep"),
        ("9" * 5_000, "is JSON with a number of too many digits"),
    ],
    ids=["torn", "nested", "digits"],
)
def test_what_is_no_json_is_refused_with_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^x {message}; expected a list; mend or leave it out$"):
        parse_json(text, "x", expected="a list")


def test_a_lone_surrogate_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"^x holds half a character, .* '\\udc80'; expected pairs"
    ):
        require_whole_characters("a\udc80b", "x")


def test_a_pair_of_surrogates_in_json_is_a_character() -> None:
    text = parse_json('"\\ud83d\\ude00"', "x", expected="text")

    require_whole_characters(text, "x")

    assert text == "\U0001f600"
