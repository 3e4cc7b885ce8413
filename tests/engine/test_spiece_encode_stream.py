"""Ids of a text that comes in parts, for SentencePiece vocabularies."""

import functools
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from tests.engine.sentencepiece_oracles import needs_data, pair
from weldlm.tokenizer import Tokenizer
from weldlm.tokenizer.encode_stream import EncodeStream
from weldlm.tokenizer.spiece_model import parse_spiece_model, spiece_parts

pytestmark = needs_data


@functools.cache
def tokenizer(add_dummy_prefix: bool, remove_extra_whitespaces: bool) -> Tokenizer:
    model = parse_spiece_model(pair("bpe").data)
    spaces = replace(
        model,
        add_dummy_prefix=add_dummy_prefix,
        remove_extra_whitespaces=remove_extra_whitespaces,
    )
    return Tokenizer(spiece_parts(spaces))


@pytest.mark.parametrize("add_dummy_prefix", [True, False], ids=["prefix", "no-prefix"])
@pytest.mark.parametrize("remove_extra_whitespaces", [True, False], ids=["removed", "kept"])
@settings(max_examples=150, deadline=None)
@given(parts=st.lists(st.text("ab \u2581\n\u200b\x01", max_size=6), max_size=5))
@example(parts=["a "])
@example(parts=["a\u2581 b"])
@example(parts=["a", " ", " ", "b "])
def test_ids_of_parts_are_those_of_the_whole_text(
    add_dummy_prefix: bool, remove_extra_whitespaces: bool, parts: list[str]
) -> None:
    whole = tokenizer(add_dummy_prefix, remove_extra_whitespaces)
    stream = EncodeStream(whole)

    ids = [token_id for part in parts for token_id in stream.push(part)] + stream.flush()

    assert ids == whole.encode_ordinary("".join(parts))
