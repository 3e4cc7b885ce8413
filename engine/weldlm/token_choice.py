"""Choosing the next token of many branches, each by settings of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from weldlm.generation_request import Branch
from weldlm.sampling import draw_tokens
from weldlm.sampling_settings import SamplingSettings
from weldlm.token_logprobs import TokenLogprob, token_logprobs

__all__ = ["Candidate", "choose_tokens"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A branch that gets a token."""

    branch: Branch
    place: int  # row of its scores


def choose_tokens(
    logits: Tensor, candidates: Sequence[Candidate]
) -> list[tuple[Candidate, int, TokenLogprob | None]]:
    """Chooses a token for each candidate.

    Args:
        logits: [R, vocab_size]; candidates may share a row.
        candidates: in any order.

    Returns:
        each with its token, and the token's log-probability where the settings ask for it.

    Raises:
        FloatingPointError: scores are not finite.
        ValueError: the rules of a request leave no token.
    """
    if not candidates:
        return []
    ids = [0] * len(candidates)
    for members in _by_choice(candidates).values():
        settings = candidates[members[0]].branch.group.settings
        drawn = _draw(logits, [candidates[member] for member in members], settings)
        for member, token_id in zip(members, drawn, strict=True):
            ids[member] = token_id
    logprobs = _logprobs(logits, candidates, ids)
    return list(zip(candidates, ids, logprobs, strict=True))


def _by_choice(candidates: Sequence[Candidate]) -> dict[tuple[float, ...], list[int]]:
    """Places of the candidates that one call can draw: those of the same filters."""
    members: dict[tuple[float, ...], list[int]] = {}
    for place, candidate in enumerate(candidates):
        s = candidate.branch.group.settings
        choice = (s.temperature, s.top_k, s.top_p, s.min_p, s.typical_p)
        members.setdefault(choice, []).append(place)
    return members


def _draw(logits: Tensor, candidates: Sequence[Candidate], settings: SamplingSettings) -> list[int]:
    scores = _rows(logits, [candidate.place for candidate in candidates])
    ruled = [place for place, one in enumerate(candidates) if one.branch.group.rules is not None]
    if ruled:
        scores = scores.float().clone()
    for place in ruled:
        branch = candidates[place].branch
        assert branch.group.rules is not None
        branch.group.rules.apply(scores[place], branch.ids, branch.group.num_first)
    numbers = torch.tensor(
        [[one.branch.group.keys[one.branch.index], len(one.branch.ids)] for one in candidates],
        device=logits.device,
    )
    best, ids = draw_tokens(scores, settings, numbers[:, 0], numbers[:, 1])
    if not bool(best.isfinite().all()):
        _refuse(logits, [candidates[row] for row in (~best.isfinite()).nonzero()[:, 0].tolist()])
    return ids.tolist()


def _rows(logits: Tensor, places: list[int]) -> Tensor:
    first, number = places[0], len(places)
    if places == list(range(first, first + number)):
        return logits[first : first + number]
    return logits[places]


def _refuse(logits: Tensor, candidates: Sequence[Candidate]) -> None:
    for candidate in candidates:
        if candidate.branch.group.rules is not None and logits[candidate.place].isfinite().all():
            raise ValueError(
                f"the rules of request {candidate.branch.group.request.id!r} leave no token; "
                "expected at least one; allow more ids, or ban fewer"
            )
    rows = [candidate.branch.group.request.row_id for candidate in candidates]
    raise FloatingPointError(
        f"the model's scores for rows {rows} are not finite; expected finite numbers; "
        "check the weights, or load the model in a wider dtype"
    )


def _logprobs(
    logits: Tensor, candidates: Sequence[Candidate], ids: Sequence[int]
) -> list[TokenLogprob | None]:
    found: list[TokenLogprob | None] = [None] * len(candidates)
    members: dict[int, list[int]] = {}
    for place, candidate in enumerate(candidates):
        settings = candidate.branch.group.settings
        if settings.logprobs is not None or not settings.is_streamed:
            members.setdefault(settings.logprobs or 0, []).append(place)
    for num_top, places in members.items():
        rows = _rows(logits, [candidates[place].place for place in places])
        news = token_logprobs(rows, [ids[place] for place in places], num_top)
        for place, logprob in zip(places, news, strict=True):
            found[place] = logprob
    return found
