"""Reads and writes tokenizer.json, the format of the tokenizers library.

What would change the ids in a way that this package does not do is refused by name: every field
has the values that are understood, and any other is an error. Nothing is approximated.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from weldlm.atomic_file import replace_text
from weldlm.tokenizer import json_bpe, json_unigram
from weldlm.tokenizer.bpe import BpeModel, Pattern
from weldlm.tokenizer.json_fields import ANY, Understood, brief, checked, parse_json
from weldlm.tokenizer.json_template import read_template, write_template
from weldlm.tokenizer.json_vocabulary import (
    NamedModel,
    read_added_tokens,
    spell_tokens,
    write_added_token,
)
from weldlm.tokenizer.parts import Decoder, Normalizer, PlainDecoder, Pretokenizer, TokenizerParts
from weldlm.tokenizer.sentencepiece import RankedBpeModel, UnigramModel

__all__ = ["read_tokenizer_json", "write_tokenizer_json"]

_FIELDS: Understood = {
    "version": ("1.0", None),
    "truncation": (None,),
    "padding": (None,),
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
}
_NORMALIZERS: Mapping[str, Callable[[Section], tuple[Normalizer, ...]]] = {
    **json_unigram.NORMALIZERS,
    "Sequence": lambda section: _read_normalizers(section),
}
_PRETOKENIZERS: Mapping[
    str, Callable[[Section], tuple[tuple[Normalizer, ...], Pretokenizer | None]]
] = {
    **json_unigram.PRETOKENIZERS,
    "ByteLevel": lambda section: ((), json_bpe.read_byte_level(section)),
}
_DECODERS: Mapping[str, Callable[[Section], Decoder]] = {
    **json_unigram.DECODERS,
    "ByteLevel": json_bpe.read_byte_level_decoder,
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
    normalizer = fields["normalizer"]
    return TokenizerParts(
        tokens=spell_tokens(named, added_tokens),
        model=named.model,
        added_tokens=added_tokens,
        normalizers=() if normalizer is None else _read("normalizer", normalizer, _NORMALIZERS),
        rewriters=rewriters,
        pretokenizer=pretokenizer,
        decoder=_read("decoder", fields["decoder"], _DECODERS),
        template=read_template(fields["post_processor"]),
    )


def write_tokenizer_json(path: Path, parts: TokenizerParts) -> None:
    """Writes the file whole or not at all.

    Raises:
        ValueError: the tokenizers library cannot do what the parts do.
    """
    replace_text(path, json.dumps(_document(parts), ensure_ascii=False, separators=(",", ":")))


def _read_normalizers(section: Section) -> tuple[Normalizer, ...]:
    fields = checked("normalizer", section, {"type": ("Sequence",), "normalizers": (ANY,)})
    rows = fields["normalizers"]
    if not isinstance(rows, list):
        raise ValueError(f"normalizers is {brief(rows)}, expected a list")
    return tuple(part for row in rows for part in _read("normalizer", row, _NORMALIZERS))


def _read_pretokenizer(
    section: object, named: NamedModel
) -> tuple[tuple[Normalizer, ...], Pretokenizer | None]:
    if section is None and isinstance(named.model, RankedBpeModel):
        return (), json_unigram.cutter_of(named.model, named.names)
    if section is None and isinstance(named.model, UnigramModel):
        return (), None
    return _read("pre_tokenizer", section, _PRETOKENIZERS)


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
            f"{name} has 'type' = {json.dumps(kind)}, which is not supported; expected {known}"
        )
    return readers[kind](fields)


def _document(parts: TokenizerParts) -> Section:
    if not (
        isinstance(parts.model, BpeModel)
        and isinstance(parts.pretokenizer, Pattern)
        and parts.decoder == PlainDecoder()
        and not parts.normalizers + parts.rewriters
    ):
        raise ValueError("only byte-level BPE is written to tokenizer.json")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [write_added_token(token) for token in parts.added_tokens],
        "normalizer": None,
        "pre_tokenizer": json_bpe.write_byte_level(parts.pretokenizer),
        "post_processor": write_template(parts.template, parts.added_tokens),
        "decoder": json_bpe.write_byte_level_decoder(),
        "model": json_bpe.write_bpe(parts.model, parts.tokens, parts.added_tokens),
    }
