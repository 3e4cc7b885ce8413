"""A .model file in the terms of tokenizer.json: the parts that say there what its own parts say.

Ids are the same but where sentencepiece rounds the sums of two segmentations to the same number,
and where the text holds the name of a special token, which the tokenizers library always finds. Of
decoded text, that of the unknown token differs. The rules of a charsmap work on grapheme clusters
there: where a rule is for a part of a cluster, such as a letter with two accents, the text differs.
What would change more is refused by name.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from weldlm.tokenizer import rewriters
from weldlm.tokenizer.parts import AddedToken, Decoder, Normalizer, TokenizerParts
from weldlm.tokenizer.sentencepiece import (
    RankedBpeModel,
    ScoredBpeModel,
    SpieceDecoder,
    SpieceNormalizer,
    UnigramModel,
)

__all__ = ["spiece_as_json_parts"]

_METASPACE = "\u2581"


def spiece_as_json_parts(parts: TokenizerParts) -> TokenizerParts:
    """The parts with those of .model files replaced; others stay as they are.

    Raises:
        ValueError: names what tokenizer.json cannot say.
    """
    model, added_tokens = parts.model, parts.added_tokens
    if isinstance(model, ScoredBpeModel):
        added_tokens = _with_unknown(parts, model.unknown_id)
        model = _ranked(model, parts.tokens, {token.id for token in added_tokens})
    elif isinstance(model, UnigramModel) and model.rules == "sentencepiece":
        added_tokens = _with_unknown(parts, model.unknown_id)
        model = _unigram(model, parts.tokens, {token.id for token in added_tokens})
    return replace(
        parts,
        model=model,
        added_tokens=added_tokens,
        normalizers=tuple(step for one in parts.normalizers for step in _normalizers(one)),
        decoder=_decoder(parts.decoder),
    )


def _with_unknown(parts: TokenizerParts, unknown_id: int) -> tuple[AddedToken, ...]:
    """The tokenizers library finds the name of the unknown token in text, as that of the others."""
    if any(token.id == unknown_id for token in parts.added_tokens):
        return parts.added_tokens
    added = AddedToken(parts.tokens[unknown_id].decode(), unknown_id)
    return tuple(sorted((*parts.added_tokens, added), key=lambda token: token.id))


def _normalizers(normalizer: Normalizer) -> tuple[Normalizer, ...]:
    if not isinstance(normalizer, SpieceNormalizer):
        return (normalizer,)
    refused = {
        "treat_whitespace_as_suffix": normalizer.treat_whitespace_as_suffix,
        "escape_whitespaces=False": not normalizer.escape_whitespaces,
        "user defined pieces with spaces": any(" " in string for string in normalizer.kept),
    }
    for name, is_there in refused.items():
        if is_there:
            raise ValueError(f"tokenizer.json cannot say what a .model does with {name}")
    spaces = (rewriters.Replace(" ", _METASPACE),)
    prefix = (rewriters.Prepend(_METASPACE),) if normalizer.add_dummy_prefix else ()
    rules = (rewriters.Precompiled(normalizer.charsmap),) if normalizer.charsmap else ()
    if not normalizer.remove_extra_whitespaces:
        return (*rules, *prefix, *spaces)
    return (
        *rules,
        rewriters.StripRuns(" ", left=True, right=False),
        rewriters.Replace(" ", " ", 2),
        *prefix,
        *spaces,
        rewriters.StripRuns(_METASPACE, left=False, right=True),
    )


def _decoder(decoder: Decoder) -> Decoder:
    if not isinstance(decoder, SpieceDecoder):
        return decoder
    return rewriters.ReplaceDecoder(_METASPACE, " ", " " if decoder.strips_first_space else "")


def _unigram(model: UnigramModel, tokens: list[bytes], added_ids: set[int]) -> UnigramModel:
    """All tokens are matched there: those that are not to be found get a score that never wins."""
    matched = {tokens[i].decode() for i in model.matched_ids.tolist()}
    hidden = sorted(set(range(len(tokens))) - set(model.matched_ids.tolist()) - added_ids)
    for name in (*matched, *(tokens[i].decode() for i in hidden)):
        missing = [character for character in name if character not in matched]
        if missing:
            raise ValueError(
                f"tokenizer.json cannot say how the token {name!r} competes with unknown "
                f"characters: it holds {missing[0]!r}, which is no token"
            )
    scores = model.scores.copy()
    least = float(scores[model.matched_ids].min())
    longest = max((len(tokens[i].decode()) for i in hidden), default=0)
    scores[hidden] = (least - 1.0) * (longest + 1)
    return replace(
        model,
        scores=scores,
        matched_ids=np.arange(len(tokens), dtype=np.uint32),
        unknown_score=float(scores.min()) - 10.0,
        rules="tokenizers",
    )


def _ranked(model: ScoredBpeModel, tokens: list[bytes], added_ids: set[int]) -> RankedBpeModel:
    if len(model.unsplit_ids):
        name = tokens[int(model.unsplit_ids[0])].decode()
        raise ValueError(
            f"tokenizer.json cannot say that the user defined piece {name!r} is never split"
        )
    names = [token.decode() for token in tokens]
    merged = set(model.merged_ids.tolist())
    for token_id in set(range(len(names))) - merged - added_ids:
        if len(names[token_id]) == 1:
            raise ValueError(
                f"tokenizer.json cannot say that the character {names[token_id]!r} is never found"
            )
    return RankedBpeModel(
        merges=_merges(model, names),
        merged_ids=np.array([i for i in sorted(merged) if len(names[i]) == 1], np.uint32),
        unknown_id=model.unknown_id,
        fuse_unknown=True,
        byte_ids=model.byte_ids,
    )


def _merges(model: ScoredBpeModel, names: list[str]) -> NDArray[np.uint32]:
    """The one merge that can lead to each token, the highest score first.

    Nothing crosses the ends of a token before it is made, so its characters merge as they do when
    it is all of the text; the last of these merges is the only one that makes it in any text.
    """
    scores = {names[i]: float(model.scores[i]) for i in model.merged_ids.tolist()}
    ids = {names[i]: i for i in model.merged_ids.tolist()}
    rows: list[tuple[float, str, str]] = []
    for name, score in scores.items():
        pair = _last_pair(name, scores)
        if pair is None:
            continue
        missing = [part for part in pair if part not in ids]
        if missing:
            raise ValueError(
                f"tokenizer.json cannot say how {name!r} is made of {missing[0]!r}, which is no "
                "token"
            )
        rows.append((-score, *pair))
    rows.sort()
    for (score, *first), (next_score, *second) in pairwise(rows):
        if score == next_score:
            raise ValueError(
                f"tokenizer.json cannot say that {''.join(first)!r} and {''.join(second)!r} have "
                f"the same score {-score}"
            )
    cells = [(ids[left], ids[right], ids[left + right]) for _, left, right in rows]
    return np.array(cells, dtype=np.uint32).reshape(-1, 3)


def _last_pair(name: str, scores: dict[str, float]) -> tuple[str, str] | None:
    """The last two symbols that merge to the token, None where its characters never become it."""
    symbols = list(name)
    while len(symbols) > 2:
        pairs = [left + right for left, right in pairwise(symbols)]
        known = [place for place, pair in enumerate(pairs) if pair in scores]
        if not known:
            return None
        first = max(known, key=lambda place: (scores[pairs[place]], -place))
        symbols[first : first + 2] = [pairs[first]]
    return (symbols[0], symbols[1]) if len(symbols) == 2 else None
