"""The functions for short texts that do without pybind11's dispatch: values, refusals, lifetime."""

import gc
import re
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from tests.engine.tokenizer_oracles import small
from weldlm.tokenizer import Tokenizer

TEXTS = {
    "empty": "",
    "short": "def encode(self)",
    "specials": "a<|endoftext|>b",
    "letters-of-two-bytes": "\xe9t\xe9 \u4e2d\u6587",
    "surrogates": "a\ud800 \ud83d\ude00",
    "just-below-the-lock": "ab c" * 1023,
    "without-the-lock": "ab c" * 1025,
    "without-the-lock-in-two-bytes": "\xe9 c" * 3000,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_ids_are_those_of_the_batch(text: str) -> None:
    expected = small().encode_batch([text], disallowed_special=())[0].tolist()

    assert small().encode_ordinary(text) == expected
    assert small().count(text) == len(expected)


@pytest.mark.parametrize("name", sorted(TEXTS.keys() - {"specials"}))
def test_text_without_special_tokens_has_the_ids_of_any_policy(name: str) -> None:
    assert small().encode(TEXTS[name]) == small().encode(TEXTS[name], disallowed_special=())


def test_special_token_is_refused_by_default() -> None:
    with pytest.raises(ValueError, match=r"text contains the special token .* at byte 1: pass"):
        small().encode(TEXTS["specials"])


@pytest.mark.parametrize(
    "ids",
    [[0, 40, 300], (0, 40, 300), iter([0, 40, 300]), np.array([0, 40, 300], dtype=np.uint16)],
    ids=["list", "tuple", "iterator", "array"],
)
def test_bytes_are_those_of_the_tokens(ids: list[int]) -> None:
    expected = b"".join(small().id_to_token(token_id) for token_id in (0, 40, 300))

    assert small().decode_bytes(ids) == expected


@pytest.mark.parametrize("name", ["encode", "encode_ordinary", "count"])
@pytest.mark.parametrize("text", [5, None, b"a"])
def test_what_is_no_text_is_refused(name: str, text: object) -> None:
    with pytest.raises(TypeError, match=r"^text is a \w+, expected str: decode bytes first$"):
        getattr(small(), name)(text)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("count", (), "count got 0 arguments, expected 1: text"),
        ("count", ("a", "b"), "count got 2 arguments, expected 1: text"),
        ("encode_ordinary", ("a", "b"), "encode_ordinary got 2 arguments, expected 1: text"),
        ("encode_refusing", (), "encode_refusing got 0 arguments, expected 1 to 3: text, before"),
        ("encode", ("a",), "encode got 1 argument, expected 3 to 6: text, allowed_ids, disallowed"),
        ("encode_refusing", ("a", [1]), "before is a list, expected a tuple of ids"),
        ("encode_refusing", ("a", (), 5), "after is a int, expected a tuple of ids"),
        ("encode", ("a", 5, []), "allowed_ids is a int, expected a list of ids"),
        ("encode", ("a", [], ["b"]), "id 'b' is a str, expected an integer"),
    ],
)
def test_wrong_arguments_of_the_encoder_are_named(
    name: str, arguments: tuple[object, ...], message: str
) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        getattr(small()._encoder, name)(*arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("decode", (), "decode got 0 arguments, expected 1 to 2: ids, is_skipped"),
        ("decode_text", ([1], None, "strict", 5), "decode_text got 4 arguments, expected 1 to 3: "),
        ("decode_text", ([1], None, 5), "errors is a int, expected a str"),
        ("decode", ([1], [0]), "is_skipped is a list, expected bytes, one for each id"),
        ("decode", ([1.5],), "id 1.5 is a float, expected an integer"),
    ],
)
def test_wrong_arguments_of_the_decoder_are_named(
    name: str, arguments: tuple[object, ...], message: str
) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        getattr(small()._decoder, name)(*arguments)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([-1], "allowed_ids holds -1, expected ids of 0 and more"),
        ([1 << 32], "allowed_ids holds 4294967296, expected ids of 0 and more"),
        ([1 << 70], "id 1180591620717411303424 is not in the vocabulary"),
    ],
)
def test_wrong_id_of_a_policy_is_named(ids: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small()._encoder.encode("a", ids, [])


def test_flags_of_another_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match="is_skipped has 3 bytes, expected one for each of 1000"):
        small()._decoder.decode([1], b"abc")


def test_ids_stand_around_those_of_the_text() -> None:
    encoder, ids = small()._encoder, small().encode_ordinary("def encode")

    assert encoder.encode_refusing("def encode", (1, 2), (3,)) == [1, 2, *ids, 3]
    assert encoder.encode("def encode", [], [], True, (1, 2), (3,)) == [1, 2, *ids, 3]
    assert encoder.encode_refusing("", (1, 2), None) == [1, 2]


@pytest.mark.parametrize("as_given", [list, tuple, iter, np.array])
def test_skipped_tokens_are_left_out(as_given: Callable[[list[int]], Iterable[int]]) -> None:
    special, *rest = [small().special_tokens["<|endoftext|>"], 40, 300]
    ids = [special, rest[0], special, rest[1], special]

    text = small().decode(as_given(ids), skip_special_tokens=True)
    raw = small().decode_bytes(as_given(ids), skip_special_tokens=True)

    assert text == small().decode(rest)
    assert raw == small().decode_bytes(rest)


@pytest.mark.parametrize("errors", ["replace", "ignore", "backslashreplace", "surrogateescape"])
def test_text_is_that_of_the_bytes(errors: str) -> None:
    ids = [*small().encode_ordinary("\xe9t\xe9 \u4e2d"), *small().encode_ordinary("\u4e2d")[:1]]
    expected = small().decode_bytes(ids).decode("utf-8", errors)

    assert small().decode(ids, errors=errors) == expected


def test_strict_text_refuses_half_a_character() -> None:
    half = small().encode_ordinary("\u4e2d")[:1]

    with pytest.raises(UnicodeDecodeError, match="unexpected end of data"):
        small().decode(half, errors="strict")


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        pytest.param([1000], ValueError, "id 1000 is not in the vocabulary", id="too-large"),
        pytest.param([-1], ValueError, "id -1 is not in the vocabulary", id="negative"),
        pytest.param([1 << 70], ValueError, "is not in the vocabulary", id="beyond-64-bits"),
        pytest.param(["a"], TypeError, "integer", id="no-number"),
        pytest.param(5, TypeError, "iterable", id="no-list"),
    ],
)
def test_what_is_no_id_is_refused(ids: list[int], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        small().decode_bytes(ids)


def test_list_that_shrinks_while_it_is_read_is_no_harm() -> None:
    ids: list[object] = []

    class Shrinking:
        def __index__(self) -> int:
            ids.clear()
            return 40

    ids += [Shrinking(), 41, 42]

    assert small().decode_bytes(ids) == small().id_to_token(40)  # type: ignore[arg-type]


def test_functions_keep_what_they_are_bound_to() -> None:
    tokenizer = Tokenizer(small().parts)
    encode, decode = tokenizer._encoder.encode_ordinary, tokenizer._decoder.decode
    del tokenizer
    gc.collect()

    ids = encode("def encode(self)")

    assert decode(ids) == b"def encode(self)"
