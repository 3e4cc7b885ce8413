"""tokenizer.json: the sections of BERT's tokenizers, and of the Unicode normalizers."""

from collections.abc import Sequence
from typing import Any

from weldlm.tokenizer.bert import (
    BertNormalizer,
    BertPretokenizer,
    WordPieceDecoder,
    WordPieceModel,
)
from weldlm.tokenizer.json_fields import ANY, Understood, brief, checked
from weldlm.tokenizer.json_vocabulary import (
    NamedModel,
    added_bytes,
    names_by_id,
    read_vocab,
    write_vocab,
)
from weldlm.tokenizer.unicode_normalizers import Lowercase, StripAccents, UnicodeNormalizer

__all__ = [
    "read_bert_normalizer",
    "read_bert_pretokenizer",
    "read_lowercase",
    "read_strip_accents",
    "read_unicode_normalizer",
    "read_wordpiece",
    "read_wordpiece_decoder",
    "write_bert_normalizer",
    "write_bert_pretokenizer",
    "write_lowercase",
    "write_strip_accents",
    "write_unicode_normalizer",
    "write_wordpiece",
    "write_wordpiece_decoder",
]

_MODEL: Understood = {
    "type": ("WordPiece",),
    "unk_token": (ANY,),
    "continuing_subword_prefix": (ANY,),
    "max_input_chars_per_word": (ANY,),
    "vocab": (ANY,),
}
_NORMALIZER: Understood = {
    "type": ("BertNormalizer",),
    "clean_text": (True, False),
    "handle_chinese_chars": (True, False),
    "strip_accents": (True, False, None),
    "lowercase": (True, False),
}
_DECODER: Understood = {"type": ("WordPiece",), "prefix": (ANY,), "cleanup": (True, False)}


def read_wordpiece(section: object) -> NamedModel:
    """Reads the model section.

    Raises:
        ValueError: it is damaged, or unk_token is not in vocab.
    """
    fields = checked("model", section, _MODEL)
    ids = read_vocab(fields["vocab"])
    unk_token = _text("model", "unk_token", fields["unk_token"])
    if unk_token not in ids:
        raise ValueError(f"model has 'unk_token' = {unk_token!r}, which is not in vocab")
    max_chars = fields["max_input_chars_per_word"]
    if type(max_chars) is not int or not 0 <= max_chars < 1 << 63:
        raise ValueError(
            f"model has 'max_input_chars_per_word' = {brief(max_chars)}, expected an integer from "
            "0 on, below 2**63"
        )
    prefix = _text("model", "continuing_subword_prefix", fields["continuing_subword_prefix"])
    names = names_by_id(ids)
    model = WordPieceModel(len(names), unk_token, prefix, max_chars)
    return NamedModel(names, model, lambda name, _: added_bytes(name))


def write_wordpiece(model: WordPieceModel, tokens: Sequence[bytes]) -> dict[str, Any]:
    """The model section."""
    names = [token.decode("utf-8") for token in tokens[: model.num_tokens]]
    return {
        "type": "WordPiece",
        "unk_token": model.unk_token,
        "continuing_subword_prefix": model.continuing_prefix,
        "max_input_chars_per_word": model.max_chars_per_word,
        "vocab": write_vocab(names),
    }


def read_bert_normalizer(section: dict[str, Any]) -> BertNormalizer:
    """Reads the normalizer BertNormalizer; without strip_accents, `lowercase` decides."""
    fields = checked("normalizer", section, _NORMALIZER)
    strip_accents = fields["strip_accents"]
    return BertNormalizer(
        clean_text=fields["clean_text"],
        handle_chinese_chars=fields["handle_chinese_chars"],
        strip_accents=fields["lowercase"] if strip_accents is None else strip_accents,
        lowercase=fields["lowercase"],
    )


def write_bert_normalizer(normalizer: BertNormalizer) -> dict[str, Any]:
    """A normalizer section."""
    return {
        "type": "BertNormalizer",
        "clean_text": normalizer.clean_text,
        "handle_chinese_chars": normalizer.handle_chinese_chars,
        "strip_accents": normalizer.strip_accents,
        "lowercase": normalizer.lowercase,
    }


def read_unicode_normalizer(section: dict[str, Any]) -> UnicodeNormalizer:
    """Reads the normalizer NFC, NFD, NFKC or NFKD."""
    fields = checked("normalizer", section, {"type": ("NFC", "NFD", "NFKC", "NFKD")})
    return UnicodeNormalizer(fields["type"])


def write_unicode_normalizer(normalizer: UnicodeNormalizer) -> dict[str, Any]:
    """A normalizer section."""
    return {"type": normalizer.form}


def read_lowercase(section: dict[str, Any]) -> Lowercase:
    """Reads the normalizer Lowercase."""
    checked("normalizer", section, {"type": ("Lowercase",)})
    return Lowercase()


def write_lowercase() -> dict[str, Any]:
    """A normalizer section."""
    return {"type": "Lowercase"}


def read_strip_accents(section: dict[str, Any]) -> StripAccents:
    """Reads the normalizer StripAccents."""
    checked("normalizer", section, {"type": ("StripAccents",)})
    return StripAccents()


def write_strip_accents() -> dict[str, Any]:
    """A normalizer section."""
    return {"type": "StripAccents"}


def read_bert_pretokenizer(section: dict[str, Any]) -> BertPretokenizer:
    """Reads the pretokenizer BertPreTokenizer."""
    checked("pre_tokenizer", section, {"type": ("BertPreTokenizer",)})
    return BertPretokenizer()


def write_bert_pretokenizer() -> dict[str, Any]:
    """A pre_tokenizer section."""
    return {"type": "BertPreTokenizer"}


def read_wordpiece_decoder(section: dict[str, Any]) -> WordPieceDecoder:
    """Reads the decoder WordPiece."""
    fields = checked("decoder", section, _DECODER)
    return WordPieceDecoder(_text("decoder", "prefix", fields["prefix"]), fields["cleanup"])


def write_wordpiece_decoder(decoder: WordPieceDecoder) -> dict[str, Any]:
    """A decoder section."""
    return {"type": "WordPiece", "prefix": decoder.continuing_prefix, "cleanup": decoder.cleanup}


def _text(section: str, field: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{section} has {field!r} = {brief(value)}, expected a string")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{section} has a lone surrogate in {field!r} = {value!r}") from error
    return value
