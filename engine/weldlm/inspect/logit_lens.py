"""What the head would say if the model ended after each layer (nostalgebraist 2020, "logit lens").

The residual stream after a layer passes the final norm, where the model has one, and the head.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from weldlm.heads import Model, Regressor, SequenceClassifier, TokenClassifier
from weldlm.heads.language import VocabularyModel
from weldlm.inspect.sample import Sample, blocks_of, hooked, last_stack
from weldlm.packing import PackedBatch

__all__ = ["LogitLens", "hidden_states", "layer_logits", "logit_lens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitLens:
    """By layer, the embedding first, and row: a token of the last stack, or the one sequence."""

    top_ids: Tensor  # [num_layers + 1, rows, top_k] int64, the most probable first
    top_probabilities: Tensor  # like top_ids
    entropies: Tensor  # [num_layers + 1, rows], nats
    targets: Tensor  # [rows] int64
    target_ranks: Tensor  # [num_layers + 1, rows] int64, 1 is the most probable
    target_log_probabilities: Tensor  # [num_layers + 1, rows]


@torch.no_grad()
def hidden_states(model: Model, sample: Sample) -> Tensor:
    """Returns the residual stream of the last stack before its final norm.

    Returns:
        [num_layers + 1, T, hidden_size], of the embedding first.
    """
    return _hidden_states(model, sample.inputs(model))


@torch.no_grad()
def layer_logits(model: Model, sample: Sample) -> Iterator[Tensor]:
    """Yields what the head says of each layer, of the embedding first, [rows, scores] fp32.

    The last are the logits of the model. One layer is held at a time.

    Raises:
        ValueError: the head scores neither tokens nor labels of what it sees.
    """
    _require_scores(model)
    inputs = sample.inputs(model)
    for hidden in _hidden_states(model, inputs):
        yield _layer_scores(model, hidden, inputs)


@torch.no_grad()
def logit_lens(
    model: Model, sample: Sample, *, targets: Tensor | None = None, top_k: int = 5
) -> LogitLens:
    """Reads every layer through the head.

    Args:
        model: with a head over tokens or labels.
        sample: what it reads.
        targets: [rows] int64, whose ranks are found; -100, or None for all, is what the last layer
            holds for most probable.
        top_k: most ids of each row.

    Raises:
        ValueError: the head is another, or `targets` or `top_k` do not fit its scores.
    """
    _require_scores(model)
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; expected at least 1")
    inputs = sample.inputs(model)
    layers = _hidden_states(model, inputs)
    last = _layer_scores(model, layers[-1], inputs)
    targets = _full_targets(targets, last)
    rows = [_read(_layer_scores(model, layer, inputs), targets, top_k) for layer in layers[:-1]]
    rows.append(_read(last, targets, top_k))
    ids, probabilities, entropies, ranks, log_probabilities = (
        torch.stack(part).cpu() for part in zip(*rows, strict=True)
    )
    return LogitLens(
        top_ids=ids,
        top_probabilities=probabilities,
        entropies=entropies,
        targets=targets.cpu(),
        target_ranks=ranks,
        target_log_probabilities=log_probabilities,
    )


def _hidden_states(model: Model, inputs: tuple[PackedBatch, ...]) -> Tensor:
    stack, found = last_stack(model), []

    def keep_embedding(_: Any, __: Any, output: Tensor) -> None:
        found.append(output)

    def keep_block(_: Any, __: Any, output: tuple[Tensor, Tensor | None]) -> None:
        stream, update = output
        found.append(stream if update is None else stream + update)

    after: list[Any] = [(stack.embedding, keep_embedding)]
    after += [(block, keep_block) for block in blocks_of(stack)]
    with hooked(after=after):
        if len(inputs) == 1:
            stack(inputs[0])
        else:
            model.logits(*inputs)  # type: ignore[operator]
    return torch.stack(found)


def _require_scores(model: Model) -> None:
    if not isinstance(model, VocabularyModel | TokenClassifier | SequenceClassifier | Regressor):
        raise ValueError(
            f"the model has the head {model.kind}; expected one that scores tokens or labels, for "
            "the logit lens"
        )


def _layer_scores(model: Model, hidden: Tensor, inputs: tuple[PackedBatch, ...]) -> Tensor:
    """What the head says of the residual stream [T, hidden_size]; fp32, [rows, scores]."""
    norm = last_stack(model).norm
    hidden = hidden if norm is None else norm(hidden)
    if isinstance(model, SequenceClassifier | Regressor):
        return model.scores(hidden, inputs[0]).float()
    assert isinstance(model, VocabularyModel | TokenClassifier)
    return model.scores(hidden).float()


def _full_targets(targets: Tensor | None, last: Tensor) -> Tensor:
    """One for each row: the given one, or what the last layer holds for most probable."""
    best, size = last.argmax(dim=1), last.shape[1]
    if targets is None:
        return best
    if targets.shape != best.shape:
        raise ValueError(
            f"targets has shape {tuple(targets.shape)}; expected {tuple(best.shape)}, one for each "
            "row that the head scores"
        )
    targets = targets.to(best.device)
    targets = torch.where(targets == -100, best, targets)
    outside = targets[(targets < 0) | (targets >= size)]
    if len(outside):
        raise ValueError(f"targets has {int(outside[0])}; expected 0 to {size - 1}, or -100")
    return targets


def _read(logits: Tensor, targets: Tensor, top_k: int) -> tuple[Tensor, ...]:
    """Most probable ids, their probabilities, entropies, and ranks and log p of the targets."""
    log_probabilities = functional.log_softmax(logits, dim=-1)
    probabilities = log_probabilities.exp()
    best = probabilities.topk(min(top_k, logits.shape[1]), dim=-1)
    # 0 log 0 is 0, also where the log is -inf
    terms = torch.where(probabilities > 0, probabilities * log_probabilities, 0.0)
    chosen = targets.unsqueeze(1)
    ranks = (logits > logits.gather(1, chosen)).sum(dim=1) + 1
    own = log_probabilities.gather(1, chosen).squeeze(1)
    return best.indices, best.values, -terms.sum(dim=-1), ranks, own
