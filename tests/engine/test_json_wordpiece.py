"""tokenizer.json: WordPiece and its normalizers, as the tokenizers library writes them."""

import json
from typing import Any

import pytest
import tokenizers

from weldlm.tokenizer import json_wordpiece
from weldlm.tokenizer.bert import (
    BertNormalizer,
    BertPretokenizer,
    WordPieceDecoder,
    WordPieceModel,
)
from weldlm.tokenizer.json_vocabulary import spell_tokens
from weldlm.tokenizer.unicode_normalizers import Lowercase, StripAccents, UnicodeNormalizer

VOCAB = {"[UNK]": 0, "a": 1, "##b": 2, "\u4e2d": 3}


def sections(
    *,
    normalizer: tokenizers.normalizers.Normalizer | None = None,
    decoder: tokenizers.decoders.Decoder | None = None,
) -> dict[str, Any]:
    """What the library writes."""
    model = tokenizers.models.WordPiece(VOCAB, unk_token="[UNK]", max_input_chars_per_word=50)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoder
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    return document


def test_model_is_read_and_written() -> None:
    section = sections()["model"]

    named = json_wordpiece.read_wordpiece(section)

    assert named.model == WordPieceModel(4, "[UNK]", "##", 50)
    tokens = spell_tokens(named, ())
    assert tokens == [name.encode() for name in VOCAB]
    assert json_wordpiece.write_wordpiece(WordPieceModel(4, "[UNK]", "##", 50), tokens) == section


def test_ids_of_a_gap_stand_for_nothing() -> None:
    section = sections()["model"] | {"vocab": {"[UNK]": 0, "a": 3}}

    named = json_wordpiece.read_wordpiece(section)

    tokens = spell_tokens(named, ())
    assert tokens == [b"[UNK]", b"", b"", b"a"]
    assert json_wordpiece.write_wordpiece(WordPieceModel(4, "[UNK]", "##", 50), tokens) == section


@pytest.mark.parametrize(
    ("strip_accents", "lowercase", "stripped"),
    [(None, True, True), (None, False, False), (True, False, True), (False, True, False)],
)
def test_bert_normalizer_is_read(
    strip_accents: bool | None, lowercase: bool, stripped: bool
) -> None:
    normalizer = tokenizers.normalizers.BertNormalizer(
        clean_text=False, strip_accents=strip_accents, lowercase=lowercase
    )

    read = json_wordpiece.read_bert_normalizer(sections(normalizer=normalizer)["normalizer"])

    assert read == BertNormalizer(False, True, stripped, lowercase)


def test_bert_normalizer_is_written() -> None:
    normalizer = tokenizers.normalizers.BertNormalizer(True, False, True, False)

    written = json_wordpiece.write_bert_normalizer(BertNormalizer(True, False, True, False))

    assert written == sections(normalizer=normalizer)["normalizer"]


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_unicode_form_is_read_and_written(form: str) -> None:
    normalizer = getattr(tokenizers.normalizers, form)()
    section = sections(normalizer=normalizer)["normalizer"]

    read = json_wordpiece.read_unicode_normalizer(section)

    assert read.form == form
    assert json_wordpiece.write_unicode_normalizer(UnicodeNormalizer(read.form)) == section


def test_lowercase_is_read_and_written() -> None:
    section = sections(normalizer=tokenizers.normalizers.Lowercase())["normalizer"]

    assert json_wordpiece.read_lowercase(section) == Lowercase()
    assert json_wordpiece.write_lowercase() == section


def test_strip_accents_is_read_and_written() -> None:
    section = sections(normalizer=tokenizers.normalizers.StripAccents())["normalizer"]

    assert json_wordpiece.read_strip_accents(section) == StripAccents()
    assert json_wordpiece.write_strip_accents() == section


def test_pretokenizer_is_read_and_written() -> None:
    section = sections()["pre_tokenizer"]

    assert json_wordpiece.read_bert_pretokenizer(section) == BertPretokenizer()
    assert json_wordpiece.write_bert_pretokenizer() == section


@pytest.mark.parametrize("cleanup", [True, False])
def test_decoder_is_read_and_written(cleanup: bool) -> None:
    section = sections(decoder=tokenizers.decoders.WordPiece("@@", cleanup))["decoder"]

    assert json_wordpiece.read_wordpiece_decoder(section) == WordPieceDecoder("@@", cleanup)
    written = json_wordpiece.write_wordpiece_decoder(WordPieceDecoder("@@", cleanup))
    assert written == section


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"unk_token": "<unk>"}, "'unk_token' = '<unk>', which is not in", id="unk"),
        pytest.param({"unk_token": None}, "'unk_token' = null, expected a string", id="null-unk"),
        pytest.param(
            {"max_input_chars_per_word": -1}, "= -1, expected an integer from 0 on", id="negative"
        ),
        pytest.param(
            {"max_input_chars_per_word": 1 << 70},
            "expected an integer from 0 on",
            id="beyond-64-bits",
        ),
        pytest.param({"continuing_subword_prefix": 5}, "= 5, expected a string", id="prefix"),
        pytest.param(
            {"continuing_subword_prefix": "\ud800"}, "has a lone surrogate in", id="surrogate"
        ),
        pytest.param({"vocab": {"a": 0, "b": 0}}, "the id 0 to 'a' and 'b'", id="id-twice"),
        pytest.param({"dropout": 0.1}, "unknown field 'dropout'", id="unknown-field"),
    ],
)
def test_refuses_damaged_models(changes: dict[str, object], message: str) -> None:
    section = sections()["model"] | changes

    with pytest.raises(ValueError, match=message):
        json_wordpiece.read_wordpiece(section)


def test_refuses_what_is_not_understood() -> None:
    with pytest.raises(ValueError, match="normalizer has no 'lowercase'"):
        json_wordpiece.read_bert_normalizer(
            {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
        )
