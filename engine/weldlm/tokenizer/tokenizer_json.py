"""Reads and writes tokenizer.json, the format of the tokenizers library.

What would change the ids in a way that this package does not do is refused by name: every field
has the values that are understood, and any other is an error. Nothing is approximated.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from weldlm.atomic_file import replace_text
from weldlm.tokenizer import json_bpe, json_rewriters, json_unigram, json_wordpiece
from weldlm.tokenizer.bert import (
    BertNormalizer,
    BertPretokenizer,
    WordPieceDecoder,
    WordPieceModel,
)
from weldlm.tokenizer.bpe import BpeModel
from weldlm.tokenizer.json_batching import (
    read_padding,
    read_truncation,
    write_padding,
    write_truncation,
)
from weldlm.tokenizer.json_fields import (
    ANY,
    Understood,
    brief,
    checked,
    parse_json,
    steps_of,
)
from weldlm.tokenizer.json_pattern import read_byte_level, write_byte_level
from weldlm.tokenizer.json_ranks import ranks_as_merges
from weldlm.tokenizer.json_spiece import spiece_as_json_parts
from weldlm.tokenizer.json_template import read_template, read_trimming, write_post_processor
from weldlm.tokenizer.json_vocabulary import (
    NamedModel,
    read_added_tokens,
    spell_tokens,
    write_added_token,
)
from weldlm.tokenizer.parts import Decoder, Normalizer, PlainDecoder, Pretokenizer, TokenizerParts
from weldlm.tokenizer.sentencepiece import MetaspaceCutter, RankedBpeModel, UnigramModel
from weldlm.tokenizer.unicode_normalizers import Lowercase, StripAccents, UnicodeNormalizer

__all__ = ["read_tokenizer_json", "write_tokenizer_json"]

_FIELDS: Understood = {
    "version": ("1.0", None),
    "truncation": (ANY, None),
    "padding": (ANY, None),
    "added_tokens": (ANY, None),
    "normalizer": (ANY, None),
    "pre_tokenizer": (ANY, None),
    "post_processor": (ANY, None),
    "decoder": (ANY, None),
    "model": (ANY,),
}

Section = dict[str, Any]
Part = TypeVar("Part")

# what reads a section, by its type
_MODELS: Mapping[str, Callable[[Section], NamedModel]] = {
    "BPE": lambda section: (
        json_unigram.read_character_bpe(section)
        if section.get("byte_fallback") is True
        else json_bpe.read_bpe(section)
    ),
    "Unigram": json_unigram.read_unigram,
    "WordPiece": json_wordpiece.read_wordpiece,
}
_NORMALIZERS: Mapping[str, Callable[[Section], tuple[Normalizer, ...]]] = {
    **json_rewriters.NORMALIZERS,
    "BertNormalizer": lambda section: (json_wordpiece.read_bert_normalizer(section),),
    "NFC": lambda section: (json_wordpiece.read_unicode_normalizer(section),),
    "NFD": lambda section: (json_wordpiece.read_unicode_normalizer(section),),
    "NFKC": lambda section: (json_wordpiece.read_unicode_normalizer(section),),
    "NFKD": lambda section: (json_wordpiece.read_unicode_normalizer(section),),
    "Lowercase": lambda section: (json_wordpiece.read_lowercase(section),),
    "StripAccents": lambda section: (json_wordpiece.read_strip_accents(section),),
}
_PRETOKENIZERS: Mapping[
    str, Callable[[Section], tuple[tuple[Normalizer, ...], Pretokenizer | None]]
] = {
    **json_rewriters.PRETOKENIZERS,
    "BertPreTokenizer": lambda section: ((), json_wordpiece.read_bert_pretokenizer(section)),
    "ByteLevel": read_byte_level,
    "Sequence": lambda section: _read_sequence(section),
}
_DECODERS: Mapping[str, Callable[[Section], Decoder]] = {
    **json_rewriters.DECODERS,
    "ByteLevel": json_bpe.read_byte_level_decoder,
    "WordPiece": json_wordpiece.read_wordpiece_decoder,
}


def read_tokenizer_json(path: Path) -> TokenizerParts:
    """Reads the file.

    Raises:
        ValueError: the file is damaged or holds what this package does not do.
    """
    fields = checked("tokenizer.json", parse_json(path.read_bytes()), _FIELDS)
    named = _read("model", {"type": "BPE"} | _section("model", fields["model"]), _MODELS)
    added_tokens = read_added_tokens(fields["added_tokens"], named.names)
    rewriters, pretokenizer = _read_pretokenizer(fields["pre_tokenizer"], named)
    normalizers = _read_normalizers(fields["normalizer"])
    json_rewriters.check_work(normalizers)
    return TokenizerParts(
        tokens=spell_tokens(named, added_tokens),
        model=named.model,
        added_tokens=added_tokens,
        normalizers=normalizers,
        rewriters=rewriters,
        pretokenizer=pretokenizer,
        decoder=_read("decoder", fields["decoder"], _DECODERS),
        template=read_template(fields["post_processor"]),
        offset_trimming=read_trimming(fields["post_processor"]),
        truncation=read_truncation(fields["truncation"]),
        padding=read_padding(fields["padding"]),
    )


def write_tokenizer_json(path: Path, parts: TokenizerParts) -> None:
    """Writes the file whole or not at all.

    Raises:
        ValueError: the tokenizers library cannot do what the parts do.
    """
    replace_text(path, json.dumps(_document(parts), ensure_ascii=False, separators=(",", ":")))


def _read_normalizers(section: object) -> tuple[Normalizer, ...]:
    if section is None:
        return ()
    steps = steps_of("normalizer", section, "normalizers")
    return tuple(part for step in steps for part in _read("normalizer", step, _NORMALIZERS))


def _read_pretokenizer(
    section: object, named: NamedModel
) -> tuple[tuple[Normalizer, ...], Pretokenizer | None]:
    if section is None and isinstance(named.model, RankedBpeModel):
        return (), json_unigram.cutter_of(named.model, named.names)
    if section is None and isinstance(named.model, UnigramModel):
        return (), None
    return _read("pre_tokenizer", section, _PRETOKENIZERS)


def _read_sequence(section: Section) -> tuple[tuple[Normalizer, ...], Pretokenizer | None]:
    match section:
        case {"pretokenizers": [*_, {"type": "Metaspace"}]}:
            return json_rewriters.PRETOKENIZERS["Sequence"](section)
    return read_byte_level(section)


def _section(name: str, section: object) -> Section:
    if not isinstance(section, dict):
        raise ValueError(f"{name} is {brief(section)}, expected an object")
    return section


def _read(name: str, section: object, readers: Mapping[str, Callable[[Section], Part]]) -> Part:
    fields = _section(name, section)
    kind = fields.get("type")
    if not isinstance(kind, str) or kind not in readers:
        known = " or ".join(f'"{reader}"' for reader in readers) or "null"
        raise ValueError(
            f"{name} has 'type' = {brief(kind)}, which is not supported; expected {known}"
        )
    return readers[kind](fields)


def _document(parts: TokenizerParts) -> Section:
    parts = ranks_as_merges(spiece_as_json_parts(parts))
    return {
        "version": "1.0",
        "truncation": write_truncation(parts.truncation),
        "padding": write_padding(parts.padding),
        "added_tokens": [write_added_token(token) for token in parts.added_tokens],
        "normalizer": _write_normalizers(parts.normalizers),
        "pre_tokenizer": _write_pretokenizer(parts),
        "post_processor": write_post_processor(parts),
        "decoder": _write_decoder(parts.decoder),
        "model": _write_model(parts),
    }


def _write_model(parts: TokenizerParts) -> Section:
    match parts.model:
        case BpeModel() as model:
            return json_bpe.write_bpe(model, parts.tokens, parts.added_tokens)
        case WordPieceModel() as model:
            return json_wordpiece.write_wordpiece(model, parts.tokens)
        case UnigramModel() as model:
            return json_unigram.write_unigram(model, parts.tokens)
        case RankedBpeModel() as model:
            return json_unigram.write_character_bpe(model, parts.tokens)
    raise ValueError(
        f"{type(parts.model).__name__} is not written to tokenizer.json; expected the merges of "
        "BPE, Unigram or WordPiece"
    )


def _write_normalizers(normalizers: tuple[Normalizer, ...]) -> Section | None:
    rows = [_write_normalizer(normalizer) for normalizer in normalizers]
    if len(rows) < 2:
        return rows[0] if rows else None
    return {"type": "Sequence", "normalizers": rows}


def _write_normalizer(normalizer: Normalizer) -> Section:
    match normalizer:
        case BertNormalizer():
            return json_wordpiece.write_bert_normalizer(normalizer)
        case UnicodeNormalizer():
            return json_wordpiece.write_unicode_normalizer(normalizer)
        case Lowercase():
            return json_wordpiece.write_lowercase()
        case StripAccents():
            return json_wordpiece.write_strip_accents()
    return json_rewriters.write_normalizer(normalizer)


def _write_pretokenizer(parts: TokenizerParts) -> Section | None:
    pretokenizer = parts.pretokenizer
    if isinstance(pretokenizer, BertPretokenizer) and not parts.rewriters:
        return json_wordpiece.write_bert_pretokenizer()
    if isinstance(parts.model, BpeModel):
        return write_byte_level(pretokenizer, parts.rewriters)
    # cuts that no token crosses need not be said
    if not parts.rewriters and isinstance(pretokenizer, MetaspaceCutter | None):
        return None
    return json_rewriters.write_pretokenizer(parts.rewriters, pretokenizer)


def _write_decoder(decoder: Decoder) -> Section:
    if isinstance(decoder, WordPieceDecoder):
        return json_wordpiece.write_wordpiece_decoder(decoder)
    if decoder == PlainDecoder():
        return json_bpe.write_byte_level_decoder()
    return json_rewriters.write_decoder(decoder)
