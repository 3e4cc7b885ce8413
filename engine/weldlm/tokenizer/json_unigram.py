"""tokenizer.json: the sections of SentencePiece vocabularies, Unigram and Llama-style BPE."""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from weldlm.tokenizer import rewriters
from weldlm.tokenizer.json_bpe import read_merges
from weldlm.tokenizer.json_fields import ANY, Understood, brief, checked
from weldlm.tokenizer.json_vocabulary import NamedModel, added_bytes, read_vocab
from weldlm.tokenizer.parts import Decoder, Normalizer, Pretokenizer
from weldlm.tokenizer.sentencepiece import (
    MetaspaceCutter,
    RankedBpeModel,
    UnigramModel,
    byte_of_piece,
)

__all__ = [
    "DECODERS",
    "NORMALIZERS",
    "PRETOKENIZERS",
    "cutter_of",
    "read_character_bpe",
    "read_unigram",
    "read_words",
]

_UNIGRAM: Understood = {
    "type": ("Unigram",),
    "unk_id": (ANY,),
    "vocab": (ANY,),
    "byte_fallback": (True, False, None),
}
_BPE: Understood = {
    "type": ("BPE", None),
    "dropout": (None, 0),
    "unk_token": (ANY, None),  # never used: every byte has a token
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "fuse_unk": (True, False, None),
    "byte_fallback": (True,),
    "ignore_merges": (False, None),
    "vocab": (ANY,),
    "merges": (ANY,),
}
_METASPACE: Understood = {
    "type": ("Metaspace",),
    "replacement": (ANY,),
    "add_prefix_space": (True, False, None),
    "prepend_scheme": ("always", "first", "never", None),
    "split": (True, False, None),
    "str_rep": (ANY, None),
}
_SPACE_RUNS = " {2,}"  # the one regular expression that is understood


def read_unigram(section: object) -> NamedModel:
    """Reads the model section of type Unigram.

    Raises:
        ValueError: it is damaged or asks for what this package does not do.
    """
    fields = checked("model", section, _UNIGRAM)
    names, scores = _scored(fields["vocab"])
    unknown_id = fields["unk_id"]
    if type(unknown_id) is not int or not 0 <= unknown_id < len(names):
        raise ValueError(
            f"model has 'unk_id' = {brief(unknown_id)}, expected 0 to {len(names) - 1}"
        )
    model = UnigramModel(
        scores=np.array(scores, dtype=np.float64),
        matched_ids=np.arange(len(names), dtype=np.uint32),
        unknown_id=unknown_id,
        unknown_score=min(scores) - 10.0,
        byte_ids=_byte_ids(names) if fields["byte_fallback"] else (),
        rules="tokenizers",
    )
    return NamedModel(names, model, _spell)


def read_character_bpe(section: object) -> NamedModel:
    """Reads the model section of type BPE with byte_fallback.

    Raises:
        ValueError: it is damaged or asks for what this package does not do.
    """
    fields = checked("model", section, _BPE)
    ids = read_vocab(fields["vocab"])
    names = list(ids)
    merges = read_merges(fields["merges"], ids)
    byte_ids = _byte_ids(names)
    if np.isin(merges[:, :2], byte_ids).any():
        raise ValueError("a merge joins a token such as <0x0A>, which is not supported")
    model = RankedBpeModel(
        merges=merges,
        merged_ids=np.array([i for i, name in enumerate(names) if len(name) == 1], np.uint32),
        unknown_id=0,
        fuse_unknown=bool(fields["fuse_unk"]),
        byte_ids=byte_ids,
    )
    return NamedModel(names, model, _spell)


def cutter_of(model: RankedBpeModel, names: Sequence[str]) -> MetaspaceCutter | None:
    """Where text without a pretokenizer may be cut without a change of its ids."""
    ids = np.union1d(model.merged_ids, model.merges[:, 2])
    return MetaspaceCutter.of(names[i] for i in ids.tolist())


def _scored(vocab: object) -> tuple[list[str], list[float]]:
    if not isinstance(vocab, list):
        raise ValueError(f"vocab is {brief(vocab)}, expected a list of pieces and scores")
    scores: dict[str, float] = {}
    for token_id, row in enumerate(vocab):
        match row:
            case [str(name), int() | float() as score] if name and abs(score) < 1e30:
                if name in scores:
                    raise ValueError(f"vocab gives the token {name!r} twice")
                scores[name] = float(score)
            case _:
                raise ValueError(
                    f"piece {token_id} of vocab is {brief(row)}, expected [piece, score]"
                )
    return list(scores), list(scores.values())


def _byte_ids(names: Sequence[str]) -> tuple[int, ...]:
    ids = {byte_of_piece(name): token_id for token_id, name in enumerate(names)}
    missing = [byte for byte in range(256) if byte not in ids]
    if missing:
        raise ValueError(
            f"byte_fallback is true, but vocab has no token <0x{missing[0]:02X}>; expected "
            "<0x00> to <0xFF>"
        )
    return tuple(ids[byte] for byte in range(256))


def _spell(name: str, is_added: bool) -> bytes:
    del is_added
    return added_bytes(name)


def _read_precompiled(section: dict[str, Any]) -> tuple[Normalizer, ...]:
    fields = checked(
        "normalizer", section, {"type": ("Precompiled",), "precompiled_charsmap": (ANY,)}
    )
    try:
        charsmap = base64.b64decode(fields["precompiled_charsmap"], validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise ValueError(f"precompiled_charsmap is not base64: {error}") from error
    return (rewriters.Precompiled(charsmap),)


def _read_prepend(section: dict[str, Any]) -> tuple[Normalizer, ...]:
    fields = checked("normalizer", section, {"type": ("Prepend",), "prepend": (ANY,)})
    return (rewriters.Prepend(_text("prepend", fields["prepend"])),)


def _read_replace(section: dict[str, Any]) -> tuple[Normalizer, ...]:
    fields = checked(
        "normalizer", section, {"type": ("Replace",), "pattern": (ANY,), "content": (ANY,)}
    )
    content = _text("content", fields["content"])
    if fields["pattern"] == {"Regex": _SPACE_RUNS}:
        return (rewriters.Replace(" ", content, 2),)
    return (rewriters.Replace(_pattern(fields["pattern"]), content),)


def _read_strip(section: dict[str, Any]) -> tuple[Normalizer, ...]:
    both = (True, False)
    fields = checked(
        "normalizer", section, {"type": ("Strip",), "strip_left": both, "strip_right": both}
    )
    return (rewriters.Strip(fields["strip_left"], fields["strip_right"]),)


def _read_nmt(section: dict[str, Any]) -> tuple[Normalizer, ...]:
    checked("normalizer", section, {"type": ("Nmt",)})
    return (rewriters.Nmt(),)


NORMALIZERS: Mapping[str, Callable[[dict[str, Any]], tuple[Normalizer, ...]]] = {
    "Precompiled": _read_precompiled,
    "Prepend": _read_prepend,
    "Replace": _read_replace,
    "Strip": _read_strip,
    "Nmt": _read_nmt,
}


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is {brief(value)}, expected a string that is not empty")
    added_bytes(value)
    return value


def _pattern(pattern: object) -> str:
    match pattern:
        case {"String": str(text), **others} if text and not others:
            return text
        case _:
            raise ValueError(
                f"Replace has the pattern {brief(pattern)}, which is not supported; expected "
                f'{{"String": ...}} or {{"Regex": "{_SPACE_RUNS}"}}'
            )


def _metaspace(name: str, section: dict[str, Any]) -> tuple[str, rewriters.PrependScheme, bool]:
    """The replacement, the scheme, and whether text is split."""
    fields = checked(name, section, _METASPACE)
    replacement = _text("replacement", fields["replacement"])
    if len(replacement) != 1:
        raise ValueError(f"{name} has 'replacement' = {replacement!r}, expected one character")
    scheme: rewriters.PrependScheme = fields["prepend_scheme"] or "always"
    if fields["add_prefix_space"] is False:
        if scheme != "never" and fields["prepend_scheme"] is not None:
            raise ValueError(f"{name} has no prefix space, but prepend_scheme {scheme!r}")
        scheme = "never"
    return replacement, scheme, fields["split"] is not False


def _read_metaspace(
    section: dict[str, Any],
) -> tuple[tuple[Normalizer, ...], Pretokenizer | None]:
    replacement, scheme, is_split = _metaspace("pre_tokenizer", section)
    rewriter = rewriters.Metaspace(replacement, scheme)
    return (rewriter,), rewriters.DelimiterCutter(replacement) if is_split else None


def _read_whitespace_split(
    section: dict[str, Any],
) -> tuple[tuple[Normalizer, ...], Pretokenizer | None]:
    checked("pre_tokenizer", section, {"type": ("WhitespaceSplit",)})
    return (), rewriters.WhitespaceSplit()


def read_words(
    section: dict[str, Any],
) -> tuple[tuple[Normalizer, ...], Pretokenizer | None]:
    """Reads the Sequence of the pretokenizers WhitespaceSplit and Metaspace."""
    fields = checked("pre_tokenizer", section, {"type": ("Sequence",), "pretokenizers": (ANY,)})
    match fields["pretokenizers"]:
        case [{"type": "WhitespaceSplit"} as first, {"type": "Metaspace"} as second]:
            _read_whitespace_split(first)
            replacement, scheme, is_split = _metaspace("pre_tokenizer", second)
        case _:
            raise ValueError(
                f"pre_tokenizer is the Sequence {brief(fields['pretokenizers'])}, expected "
                "WhitespaceSplit and Metaspace"
            )
    if scheme != "always" or not is_split:
        raise ValueError(
            f"Metaspace behind WhitespaceSplit has prepend_scheme {scheme!r} and split "
            f"{is_split}, expected 'always' and true"
        )
    return (rewriters.MetaspaceWords(replacement),), rewriters.DelimiterCutter(replacement)


PRETOKENIZERS: Mapping[
    str, Callable[[dict[str, Any]], tuple[tuple[Normalizer, ...], Pretokenizer | None]]
] = {
    "Metaspace": _read_metaspace,
    "WhitespaceSplit": _read_whitespace_split,
    "Sequence": read_words,
}


def _read_metaspace_decoder(section: dict[str, Any]) -> Decoder:
    replacement, scheme, _ = _metaspace("decoder", section)
    return rewriters.MetaspaceDecoder(replacement, scheme)


def _read_replace_decoder(section: dict[str, Any]) -> Decoder:
    fields = checked("decoder", section, {"type": ("Sequence",), "decoders": (ANY,)})
    match fields["decoders"]:
        case [
            {"type": "Replace", "pattern": pattern, "content": str(content)},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            *rest,
        ]:
            replaced = _pattern(pattern)
        case _:
            raise ValueError(
                f"decoder is the Sequence {brief(fields['decoders'])}, expected Replace, "
                "ByteFallback, Fuse and perhaps Strip"
            )
    match rest:
        case []:
            return rewriters.ReplaceDecoder(replaced, content, "")
        case [{"type": "Strip", "content": str(stripped), "start": 1, "stop": 0}]:
            return rewriters.ReplaceDecoder(replaced, content, stripped)
        case _:
            raise ValueError(
                f"decoder ends with {brief(rest)}, expected Strip of one character at the start"
            )


DECODERS: Mapping[str, Callable[[dict[str, Any]], Decoder]] = {
    "Metaspace": _read_metaspace_decoder,
    "Sequence": _read_replace_decoder,
}
