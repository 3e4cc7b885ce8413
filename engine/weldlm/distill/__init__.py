"""Distillation: a smaller student that starts from a teacher's layers and learns what it says."""

from weldlm.distill.loss import DistillSettings, distilled
from weldlm.distill.student import choose_layers, shrink
from weldlm.distill.text_run import TextDistillation, distill_text

__all__ = [
    "DistillSettings",
    "TextDistillation",
    "choose_layers",
    "distill_text",
    "distilled",
    "shrink",
]
