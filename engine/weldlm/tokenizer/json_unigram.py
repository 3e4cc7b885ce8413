"""tokenizer.json: the models of SentencePiece vocabularies, Unigram and Llama-style BPE."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from weldlm.tokenizer.json_bpe import read_merges
from weldlm.tokenizer.json_fields import ANY, Understood, brief, checked, written_float
from weldlm.tokenizer.json_vocabulary import (
    NamedModel,
    added_bytes,
    names_by_id,
    read_vocab,
    write_vocab,
)
from weldlm.tokenizer.sentencepiece import (
    MetaspaceCutter,
    RankedBpeModel,
    UnigramModel,
    byte_of_piece,
)

__all__ = [
    "cutter_of",
    "read_character_bpe",
    "read_unigram",
    "write_character_bpe",
    "write_unigram",
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
    names = names_by_id(ids)
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


def write_unigram(model: UnigramModel, tokens: Sequence[bytes]) -> dict[str, Any]:
    """The model section.

    Raises:
        ValueError: the tokenizers library would find other tokens.
    """
    num_tokens = len(model.scores)
    least = float(model.scores.min())
    if len(model.matched_ids) != num_tokens or abs(model.unknown_score - (least - 10.0)) > 1e-9:
        raise ValueError(
            "a Unigram model with tokens that text is not searched for, or with an unknown score "
            f"of {model.unknown_score} at a least score of {least}, is not written to "
            "tokenizer.json; expected all tokens, and 10 below the least score"
        )
    names = _names(tokens[:num_tokens])
    scores = map(written_float, model.scores.tolist())
    return {
        "type": "Unigram",
        "unk_id": model.unknown_id,
        "vocab": [[name, score] for name, score in zip(names, scores, strict=True)],
        "byte_fallback": bool(model.byte_ids),
    }


def write_character_bpe(model: RankedBpeModel, tokens: Sequence[bytes]) -> dict[str, Any]:
    """The model section.

    Raises:
        ValueError: the tokenizers library would find other tokens.
    """
    if not model.byte_ids:
        raise ValueError(
            "BPE over characters without byte_fallback is not written to tokenizer.json; expected "
            "a token for each of <0x00> to <0xFF>"
        )
    names = _names(tokens)
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": model.fuse_unknown,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": write_vocab(names),
        "merges": [[names[left], names[right]] for left, right, _ in model.merges.tolist()],
    }


def cutter_of(model: RankedBpeModel, names: Sequence[str]) -> MetaspaceCutter | None:
    """Where text without a pretokenizer may be cut without a change of its ids."""
    ids = np.union1d(model.merged_ids, model.merges[:, 2])
    return MetaspaceCutter.of(names[i] for i in ids.tolist())


def _names(tokens: Sequence[bytes]) -> list[str]:
    return [token.decode("utf-8") for token in tokens]


def _scored(vocab: object) -> tuple[list[str], list[float]]:
    if not isinstance(vocab, list):
        raise ValueError(f"vocab is {brief(vocab)}, expected a list of pieces and scores")
    scores: dict[str, float] = {}
    for token_id, row in enumerate(vocab):
        match row:
            case [str(name), int() | float() as score] if (
                name and not isinstance(score, bool) and abs(score) < 1e30
            ):
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
