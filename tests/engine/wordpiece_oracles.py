"""BERT's tokenizer, in this package and in the library it is compared to."""

import functools
import os
from pathlib import Path

import pytest
import tokenizers

from weldlm.tokenizer import Tokenizer
from weldlm.tokenizer.bert import bert_parts
from weldlm.tokenizer.vocab_txt import read_vocab_txt

DATA = Path(os.environ.get("WELDLM_TEST_DATA", "data"))
VOCAB_PATH = DATA / "tokenizers" / "bert-base-uncased-vocab.txt"
TEXT_PATHS = tuple(sorted((DATA / "text").glob("*.txt")))

needs_bert = pytest.mark.skipif(
    not VOCAB_PATH.is_file(), reason=f"{VOCAB_PATH} is absent; WELDLM_TEST_DATA names the folder"
)

# whether to lower case, and to strip accents
CASINGS: dict[str, tuple[bool, bool | None]] = {
    "uncased": (True, None),
    "cased": (False, None),
    "lower-with-accents": (True, False),
    "cased-without-accents": (False, True),
}


@functools.cache
def bert(casing: str) -> Tokenizer:
    lowercase, strip_accents = CASINGS[casing]
    tokens = read_vocab_txt(VOCAB_PATH)
    return Tokenizer(bert_parts(tokens, lowercase=lowercase, strip_accents=strip_accents))


@functools.cache
def bert_of_tokenizers(casing: str) -> tokenizers.BertWordPieceTokenizer:
    lowercase, strip_accents = CASINGS[casing]
    return tokenizers.BertWordPieceTokenizer(
        str(VOCAB_PATH), lowercase=lowercase, strip_accents=strip_accents
    )


def located(casing: str, text: str) -> list[tuple[int, int, int]]:
    """Ids with the characters they stand for."""
    ours = bert(casing).encode_with_offsets(text, allowed_special="all")
    return [(i, *place) for i, place in zip(ours.ids, ours.offsets.tolist(), strict=True)]


def located_by_tokenizers(casing: str, text: str) -> list[tuple[int, int, int]]:
    encoding = bert_of_tokenizers(casing).encode(text)
    return [(i, *place) for i, place in zip(encoding.ids, encoding.offsets, strict=True)]


def every_character() -> list[str]:
    return [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
