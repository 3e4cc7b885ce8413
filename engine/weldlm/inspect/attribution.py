"""Which tokens a score comes from: integrated gradients (Sundararajan et al. 2017, 1703.01365).

attribution_i = (x_i - x'_i) * integral over a in [0, 1] of dF/dx_i at x' + a (x - x'), where x are
the token embeddings, x' those of a baseline and F is a score of the model. The attributions sum to
F(x) - F(x'), but for the error of the quadrature.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from weldlm.heads import Model
from weldlm.inspect.sample import Sample, hooked, scores_of
from weldlm.packing import PackedBatch

__all__ = ["Attribution", "Score", "attribute_tokens", "integrate_gradients"]

Report = Callable[[int, int], None]

_MOST_ERROR = 0.05  # of the score, for attributions that can be trusted

# of the target: its log-probability among all that the head scores, or what the head says of it
Score = Literal["log_probability", "logit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """What each token adds to a score, compared with a baseline in its place."""

    tokens: Tensor  # [T], or [S + U] of a source and its target
    score: float  # of the text
    baseline_score: float
    completeness_error: float  # |sum of tokens - (score - baseline_score)|, of the quadrature
    num_steps: int

    @property
    def is_complete(self) -> bool:
        """Whether the tokens miss what they explain by no more than 5 %, or a hundredth."""
        whole = abs(self.score - self.baseline_score)
        return self.completeness_error <= max(_MOST_ERROR * whole, 0.01)


def attribute_tokens(
    model: Model,
    sample: Sample,
    *,
    row: int,
    column: int,
    score: Score = "log_probability",
    baseline: Sample | None = None,
    num_steps: int = 64,
    max_batch_tokens: int = 2_048,
    report: Report | None = None,
) -> Attribution:
    """Attributes one score to the embeddings of the tokens.

    Args:
        model: with a head over tokens or labels.
        sample: what it reads.
        row: token of the last stack, or 0 for a head that judges the sequence, whose
        column: id or label is scored; negative rows count from the end.
        score: how.
        baseline: a sample of the same lengths, whose embeddings are compared with; zeros where
            None. A token that is the same in both gets nothing. Zeros are a poor choice for models
            that begin with an RMS norm, which makes every multiple of an embedding the same.
        num_steps: places of Gauss-Legendre quadrature; more make the completeness error smaller.
        max_batch_tokens: in a forward; one step is never divided.
        report: called with the number of steps done and of all steps.

    Raises:
        ValueError: row or column are none that the head scores, the baseline has other lengths, or
            an option is below 1.
    """
    steps_at_once = max(1, max_batch_tokens // sample.num_tokens)
    tables = _embeddings(model, sample)
    start = _start(model, baseline, tables)

    def score_copies(embeddings: Tensor) -> Tensor:
        num_copies = len(embeddings)
        inputs = sample.inputs(model, num_copies)
        with _embedded(model, inputs, embeddings):
            logits = scores_of(model, inputs).float()
        return _target_scores(logits.view(num_copies, -1, logits.shape[1]), row, column, score)

    attributions, ends = integrate_gradients(
        score_copies,
        tables,
        start,
        num_steps=num_steps,
        steps_at_once=steps_at_once,
        report=report,
    )
    tokens = attributions.float().sum(dim=1).cpu()
    total = ends[1] - ends[0]
    return Attribution(
        tokens=tokens,
        score=ends[1],
        baseline_score=ends[0],
        completeness_error=abs(float(tokens.double().sum()) - total),
        num_steps=num_steps,
    )


def integrate_gradients(
    score: Callable[[Tensor], Tensor],
    inputs: Tensor,
    baseline: Tensor,
    *,
    num_steps: int = 64,
    steps_at_once: int = 16,
    report: Report | None = None,
) -> tuple[Tensor, tuple[float, float]]:
    """Integrated gradients of any function.

    Args:
        score: takes [N, *shape] and returns [N], each from its own part.
        inputs: x, of any shape.
        baseline: x', of the same.
        num_steps: places of Gauss-Legendre quadrature.
        steps_at_once: N of a call, at most.
        report: called with the number of steps done and of all steps.

    Returns:
        The attributions, in the shape of `inputs`, and the scores of baseline and inputs.
    """
    for name, value in (("num_steps", num_steps), ("steps_at_once", steps_at_once)):
        if value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1")
    nodes, weights = np.polynomial.legendre.leggauss(num_steps)
    place = torch.as_tensor((nodes + 1) / 2, dtype=inputs.dtype, device=inputs.device)
    weight = torch.as_tensor(weights / 2, dtype=torch.float32, device=inputs.device)
    way = inputs - baseline
    # in at least fp32: a sum of many gradients in 16 bits loses digits
    total = torch.zeros_like(way, dtype=torch.promote_types(way.dtype, torch.float32))
    done = 0
    for a, w in zip(place.split(steps_at_once), weight.split(steps_at_once), strict=True):
        points = (baseline + a.view(-1, *[1] * way.dim()) * way).requires_grad_()
        with torch.enable_grad():
            (gradients,) = torch.autograd.grad(score(points).sum(), points)
        total += torch.einsum("n, n ... -> ...", w.to(total.dtype), gradients.to(total.dtype))
        done += len(a)
        if report is not None:
            report(done, num_steps)
    with torch.no_grad():
        first, last = (float(score(end.unsqueeze(0))) for end in (baseline, inputs))
    return total * way, (first, last)


@torch.no_grad()
def _embeddings(model: Model, sample: Sample) -> Tensor:
    """What the token table says of the sample, a source before its target: [T, hidden_size]."""
    table = _token_table(model)
    return torch.cat([table(batch.ids) for batch in sample.inputs(model)])


def _start(model: Model, baseline: Sample | None, tables: Tensor) -> Tensor:
    """The embeddings that those of the text, `tables`, are compared with."""
    if baseline is None:
        return torch.zeros_like(tables)
    start = _embeddings(model, baseline)
    if start.shape != tables.shape:
        raise ValueError(
            f"baseline has {len(start)} tokens and the sample {len(tables)}; expected equal numbers"
        )
    return start


def _embedded(model: Model, inputs: tuple[PackedBatch, ...], embeddings: Tensor) -> Any:
    """A block in which the token table gives `embeddings` [N, T, hidden_size] for `inputs`."""
    num_copies, _, width = embeddings.shape
    lengths = [batch.num_tokens // num_copies for batch in inputs]
    parts = [part.reshape(-1, width) for part in embeddings.split(lengths, dim=1)]

    def replace(_: Any, arguments: tuple[Tensor], output: Tensor) -> Tensor:
        # both stacks of an encoder-decoder have one table; the ids tell which is asked for
        places = [place for place, batch in enumerate(inputs) if arguments[0] is batch.ids]
        return parts[places[0]] if places else output

    return hooked(after=[(_token_table(model), replace)])


def _token_table(model: Model) -> torch.nn.Module:
    stack = "encoder" if hasattr(model, "encoder") else "transformer"
    return model.get_submodule(f"{stack}.embedding.tokens")


def _target_scores(logits: Tensor, row: int, column: int, score: Score) -> Tensor:
    """Of logits [N, rows, scores], the one that is explained, [N]."""
    for name, place, size in (("row", row, logits.shape[1]), ("column", column, logits.shape[2])):
        if not -size <= place < size or (name == "column" and place < 0):
            raise ValueError(f"{name} is {place}; expected 0 to {size - 1}, what the head scores")
    chosen = logits[:, row]
    if score == "log_probability":
        chosen = chosen.log_softmax(dim=-1)
    return chosen[:, column]
