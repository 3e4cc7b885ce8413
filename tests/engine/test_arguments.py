"""What a tokenizer is not to be called with is refused in one line."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.engine.tokenizer_files import learned
from weldlm.tokenizer import Tokenizer

WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "encode_batch-none": (
        lambda tokenizer: tokenizer.encode_batch(None),
        "texts is a NoneType, expected several str",
    ),
    "encode_batch-threads": (
        lambda tokenizer: tokenizer.encode_batch(["a"], num_threads=1.5),
        "num_threads is 1.5, expected a whole number or None",
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


def test_lone_surrogate_is_no_token() -> None:
    assert learned("bpe").token_to_id("\ud800") is None


def test_truncation_to_true_is_one_token() -> None:
    assert learned("bpe").truncate("a b", True) == "a"
