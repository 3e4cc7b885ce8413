"""What a tokenizer is not to be called with is refused in one line."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.engine.tokenizer_files import learned
from weldlm.tokenizer import EncodeStream, Tokenizer

WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "encode_batch-none": (
        lambda tokenizer: tokenizer.encode_batch(None),
        "texts is a NoneType, expected several str",
    ),
    "encode_batch-threads": (
        lambda tokenizer: tokenizer.encode_batch(["a"], num_threads=1.5),
        "num_threads is 1.5, expected a whole number or None",
    ),
    "encode-allowed": (
        lambda tokenizer: tokenizer.encode("x", allowed_special=None),
        "allowed_special is a NoneType, expected 'all' or several str",
    ),
    "encode-disallowed": (
        lambda tokenizer: tokenizer.encode("x", disallowed_special=[["x"]]),
        r"disallowed_special holds \['x'\], expected 'all' or several str",
    ),
    "decode-one": (
        lambda tokenizer: tokenizer.decode(5),
        r"ids is 5 of type int, expected an iterable of integers: pass \[id\]",
    ),
    "decode-half": (
        lambda tokenizer: tokenizer.decode([1.5]),
        "id 1.5 is a float, expected an integer",
    ),
    "stream-none": (
        lambda tokenizer: EncodeStream(tokenizer).push(None),
        "text is a NoneType, expected str",
    ),
    "stream-allowed": (
        lambda tokenizer: EncodeStream(tokenizer, allowed_special=None),
        "allowed_special is a NoneType, expected 'all' or several str",
    ),
    "train-special": (
        lambda _: Tokenizer.train(["a"], 300, special_tokens=[5]),
        "special_tokens holds 5, expected a sequence of str",
    ),
    "train-frequency": (
        lambda _: Tokenizer.train(["a"], 300, min_frequency=1.5),
        "min_frequency is 1.5, expected a whole number",
    ),
    "encode_segments-none": (
        lambda tokenizer: tokenizer.encode_segments(None),
        r"segments is a NoneType, expected pairs \(text, is_trusted\)",
    ),
    "encode_segments-text": (
        lambda tokenizer: tokenizer.encode_segments([("a", True), "ab"]),
        r"segment 1 is 'ab' \(str\), expected a pair \(text, is_trusted\) of a str and a bool",
    ),
    "encode_segments-trust": (
        lambda tokenizer: tokenizer.encode_segments([("a", "yes")]),
        "segment 0 is .* expected a pair",
    ),
    "offsets": (
        lambda tokenizer: tokenizer.encode_with_offsets(b"a"),
        "text is a bytes, expected str: decode bytes first",
    ),
    "part": (
        lambda tokenizer: tokenizer.encode_part(None, is_start=True),
        "text is a NoneType, expected str",
    ),
    "truncate-half": (
        lambda tokenizer: tokenizer.truncate("a", 1.5),
        "max_tokens is 1.5, expected a whole number",
    ),
    "token_to_id": (
        lambda tokenizer: tokenizer.token_to_id(None),
        "token is a NoneType, expected str or bytes",
    ),
    "train-texts": (
        lambda _: Tokenizer.train(["a", None], 300),
        "text 1 is a NoneType, expected str",
    ),
    "train-size": (
        lambda _: Tokenizer.train(["a"], "x"),
        "vocab_size is 'x', expected a whole number",
    ),
}


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_argument_is_refused_in_one_line(call: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(TypeError, match=rf"^{message}[^\n]*$"):
        call(learned("bpe"))


OUT_OF_RANGE: dict[str, tuple[Callable[[Any], Any], str]] = {
    f"threads-{name}": (
        lambda tokenizer, number=number: tokenizer.encode_batch(["a"], num_threads=number),
        rf"num_threads={shown}, expected at least 1 and at most 65,536, or None for all cores",
    )
    for name, number, shown in [
        ("none", 0, "0"),
        ("2**40", 2**40, "1099511627776"),
        ("2**60", 2**60, "1152921504606846976"),
        ("2**70", 2**70, "1180591620717411303424"),
        ("endless", 10**5000, r"about 2\*\*16609"),
    ]
}
OUT_OF_RANGE |= {
    "train-threads": (
        lambda _: Tokenizer.train(["a"], 300, num_threads=2**60),
        "num_threads=1152921504606846976, expected at least 1 and at most 65,536",
    ),
    "train-size": (
        lambda _: Tokenizer.train(["a"], 2**70),
        "vocab_size=1180591620717411303424, expected at most 2,147,483,648",
    ),
    "train-frequency": (
        lambda _: Tokenizer.train(["a"], 300, min_frequency=2**70),
        "min_frequency=1180591620717411303424, expected at most",
    ),
    "train-surrogate": (
        lambda _: Tokenizer.train(["a"], 300, special_tokens=["\ud800"]),
        r"special token '\\ud800' holds a lone surrogate",
    ),
    "decode-large": (
        lambda tokenizer: tokenizer.decode(np.array([2**63], np.uint64)),
        "id 9223372036854775808 is not in the vocabulary: expected 0 to 289",
    ),
}


@pytest.mark.parametrize(("call", "message"), OUT_OF_RANGE.values(), ids=OUT_OF_RANGE.keys())
def test_value_out_of_range_is_refused_in_one_line(
    call: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{message}[^\n]*$"):
        call(learned("bpe"))


def test_more_threads_than_texts_do_no_harm() -> None:
    tokenizer = learned("bpe")

    rows = tokenizer.encode_batch(["the", "end"], num_threads=65_536)

    assert [row.tolist() for row in rows] == [tokenizer.encode("the"), tokenizer.encode("end")]


def test_lone_surrogate_is_no_token() -> None:
    assert learned("bpe").token_to_id("\ud800") is None


def test_truncation_to_true_is_one_token() -> None:
    assert learned("bpe").truncate("a b", True) == "a"
