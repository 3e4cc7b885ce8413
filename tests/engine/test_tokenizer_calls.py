"""The functions for short texts that do without pybind11's dispatch: values, refusals, lifetime."""

import gc

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
    with pytest.raises(TypeError, match="expected str"):
        getattr(small(), name)(text)


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
