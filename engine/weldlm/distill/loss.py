"""The loss of a student: labels, the teacher's distributions, its states and its attention.

The loss of a labelled row is hard_share * cross-entropy + (1 - hard_share) * T^2 *
KL(teacher || student) at temperature T (Hinton et al. 2015, arXiv:1503.02531). Neither model's
[N, vocab_size] logits ever exist whole. To the mean over rows come hidden_weight * the mean of
1 - cosine of the states behind matched layers (Sanh et al. 2019, arXiv:1910.01108) and
attention_weight * the mean of KL(teacher || student) of what the last layer's tokens look at (Wang
et al. 2020, arXiv:2002.10957).
"""

import copy
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor
from torch.nn import functional

from weldlm.distill.matching import Matching, check_matching
from weldlm.heads import (
    CausalLM,
    MaskedLM,
    Model,
    Projection,
    Seq2SeqLM,
    SequenceClassifier,
    TokenClassifier,
)
from weldlm_kernels import linear_cross_entropy, linear_kl_divergence

__all__ = ["DistillSettings", "distilled"]

Student = CausalLM | MaskedLM | Seq2SeqLM | SequenceClassifier | TokenClassifier
M = TypeVar("M", CausalLM, MaskedLM, Seq2SeqLM, SequenceClassifier, TokenClassifier)


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillSettings:
    """How much a student learns from its teacher."""

    temperature: float = 2.0  # divides the logits of both before they are compared
    hard_share: float = 0.5  # of the loss, that comes from the labels
    hidden_weight: float = 0.0  # of the states; the student is as wide as the teacher
    attention_weight: float = 0.0  # of the last attention; it has as many heads as the teacher

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature is {self.temperature}; expected a finite number above 0")
        if not 0 <= self.hard_share <= 1:
            raise ValueError(f"hard_share is {self.hard_share}; expected 0 to 1")
        for name in ("hidden_weight", "attention_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or more")


def distilled(student: M, teacher: Model, settings: DistillSettings | None = None) -> M:
    """Returns the student with a loss that a teacher takes part in; they share their weights.

    It trains, saves and loads as the student does: the teacher is no part of it.

    Args:
        student: on the teacher's device.
        teacher: with the same kind of head and the same tokens or labels; without dropout.
        settings: the defaults where None.

    Raises:
        ValueError: the two do not fit together.
    """
    settings = settings or DistillSettings()
    _check(student, teacher)
    check_matching(student, teacher, settings.hidden_weight, settings.attention_weight)
    for weight in teacher.parameters():
        weight.requires_grad_(False)
    model = copy.copy(student)
    model.__class__ = _DISTILLED[type(student)]
    # not a submodule: its weights are no weights of the model
    model.__dict__["_teaching"] = teacher.eval(), settings
    return model


def _check(student: Model, teacher: Model) -> None:
    if not isinstance(student, Student):
        raise ValueError(
            f"a head of the kind {student.kind} predicts no distribution; expected a language "
            "model or a classifier"
        )
    if teacher.kind != student.kind:
        raise ValueError(
            f"the teacher's head is of the kind {teacher.kind}, the student's {student.kind}; "
            "expected the same"
        )
    is_classifier = isinstance(student, SequenceClassifier | TokenClassifier)
    name = "labels" if is_classifier else "vocab_size"
    theirs, ours = getattr(teacher.config, name), getattr(student.config, name)
    if theirs != ours:
        raise ValueError(f"the teacher has {name} {theirs}, the student {ours}; expected the same")
    for who, model in (("teacher", teacher), ("student", student)):
        if model.config.logits_softcap is not None:
            raise ValueError(
                f"the {who} caps its logits at {model.config.logits_softcap}; expected a model "
                "without logits_softcap"
            )


def _forward(self: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
    """Returns the summed loss and the number of labels; arguments as of the student."""
    teacher, settings = self._teaching
    matching = Matching(self, teacher, settings.hidden_weight, settings.attention_weight)
    with matching.of_student():
        hidden, weight, bias, labels, row_weights = self.projection(*arguments)
    hard, count = linear_cross_entropy(hidden, weight, labels, bias=bias, row_weights=row_weights)
    if settings.hard_share == 1 and not matching.is_needed:
        return hard, count
    with torch.no_grad(), matching.of_teacher():
        theirs: Projection = teacher.projection(*arguments)
    soft, _ = linear_kl_divergence(
        *_with_bias(hidden, weight, bias),
        *_with_bias(theirs.hidden, theirs.weight, theirs.bias),
        temperature=settings.temperature,
        mask=labels != -100,
        row_weights=row_weights,
    )
    soft_share = (1 - settings.hard_share) * settings.temperature**2
    total = settings.hard_share * hard + soft_share * soft
    return (total + count * matching.loss() if matching.is_needed else total), count


def _with_bias(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """A bias as one more column, which every row has at 1."""
    if bias is None:
        return hidden, weight
    joint = torch.cat((weight, bias.unsqueeze(1).to(weight.dtype)), dim=1)
    return functional.pad(hidden, (0, 1), value=1.0), joint


_DISTILLED = {
    kind: type(f"Distilled{kind.__name__}", (kind,), {"forward": _forward})
    for kind in get_args(Student)
}
