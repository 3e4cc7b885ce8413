"""States and attention of a student beside those of its teacher, kept while both run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from weldlm.distill.student import stacks
from weldlm.heads import Model
from weldlm.layers import Attention

__all__ = ["Matching", "check_matching"]


class Matching:
    """One forward of both models."""

    def __init__(
        self, student: Model, teacher: Model, hidden_weight: float, attention_weight: float
    ) -> None:
        self.hidden_weight, self.attention_weight = hidden_weight, attention_weight
        self._student, self._teacher = student, teacher
        self._states: tuple[list[Tensor], list[Tensor]] = [], []
        self._attention: tuple[list[Tensor], list[Tensor]] = [], []

    @property
    def is_needed(self) -> bool:
        return self.hidden_weight > 0 or self.attention_weight > 0

    @contextmanager
    def of_student(self) -> Iterator[None]:
        """Keeps what the student computes meanwhile."""
        layers = [list(blocks) for blocks in stacks(self._student)]
        with self._kept(layers, self._states[0], self._attention[0]):
            yield

    @contextmanager
    def of_teacher(self) -> Iterator[None]:
        """Keeps what the teacher computes in the layers that the student's are matched to."""
        theirs, ours = stacks(self._teacher), stacks(self._student)
        layers = [
            [blocks[place] for place in _matched(len(blocks), len(mine))]
            for blocks, mine in zip(theirs, ours, strict=True)
        ]
        with self._kept(layers, self._states[1], self._attention[1]):
            yield

    def loss(self) -> Tensor:
        """Returns the weighted mean over tokens of what differs, a scalar."""
        total = torch.zeros((), device=next(self._student.parameters()).device)
        if self.hidden_weight:
            pairs = zip(*self._states, strict=True)
            distances = [
                1 - functional.cosine_similarity(ours.float(), theirs.float(), dim=-1).mean()
                for ours, theirs in pairs
            ]
            total = total + self.hidden_weight * torch.stack(distances).mean()
        if self.attention_weight:
            # [heads, queries, keys] a sequence; a query that sees nothing has no distribution
            sums = [_divergence(*pair) for pair in zip(*self._attention, strict=True)]
            rows = sum(part.shape[0] * part.shape[1] for part in self._attention[0])
            total = total + self.attention_weight * torch.stack(sums).sum() / rows
        return total

    @contextmanager
    def _kept(
        self, layers: Sequence[Sequence[nn.Module]], states: list[Tensor], attention: list[Tensor]
    ) -> Iterator[None]:
        def keep_state(_block: nn.Module, _inputs: Any, output: Any) -> None:
            stream, update = output
            states.append(stream if update is None else stream + update)

        def keep_attention(layer: nn.Module, inputs: Any) -> None:
            assert isinstance(layer, Attention)
            attention.extend(layer.probabilities(*inputs))

        handles = []
        if self.hidden_weight:
            every = [block for group in layers for block in group]
            handles += [block.register_forward_hook(keep_state) for block in every]
        if self.attention_weight:
            last = [group[-1].get_submodule("attention") for group in layers]
            handles += [layer.register_forward_pre_hook(keep_attention) for layer in last]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def check_matching(
    student: Model, teacher: Model, hidden_weight: float, attention_weight: float
) -> None:
    """Refuses models whose states or attention cannot be compared.

    Raises:
        ValueError: widths or heads differ.
    """
    for name, weight in (("hidden_size", hidden_weight), ("num_heads", attention_weight)):
        theirs, ours = getattr(teacher.config, name), getattr(student.config, name)
        if weight and theirs != ours:
            what = "hidden_weight" if name == "hidden_size" else "attention_weight"
            raise ValueError(
                f"the teacher has {name} {theirs}, the student {ours}; expected the same for a "
                f"{what} above 0"
            )
    if hidden_weight or attention_weight:
        for theirs_, ours_ in zip(stacks(teacher), stacks(student), strict=True):
            if len(ours_) > len(theirs_):
                raise ValueError(
                    f"the student has {len(ours_)} layers, the teacher {len(theirs_)}; expected "
                    "no more than the teacher"
                )


def _matched(num_theirs: int, num_ours: int) -> list[int]:
    """The teacher's layer behind which each of the student's is (Jiao et al. 2019, TinyBERT)."""
    return [(place + 1) * num_theirs // num_ours - 1 for place in range(num_ours)]


def _divergence(ours: Tensor, theirs: Tensor) -> Tensor:
    """Sum over heads and queries of KL(theirs || ours)."""
    smallest = torch.finfo(torch.float32).tiny
    logs = theirs.float().clamp_min(smallest).log() - ours.float().clamp_min(smallest).log()
    return (theirs.float() * logs).sum()
