"""How well a model does: on text, on questions with choices, on labelled rows, beside another."""

from weldlm.evaluate.calibration import Calibration, calibrate, draw_reliability
from weldlm.evaluate.choices import ChoiceRow, choice_scores, read_choices
from weldlm.evaluate.compression import Compression, bits_per_byte, compress
from weldlm.evaluate.intervals import Difference, Interval, Measure, difference, interval
from weldlm.evaluate.labelled import LabelledAnswers, answer_labelled
from weldlm.evaluate.text_losses import TextLosses, read_documents, text_losses

__all__ = [
    "Calibration",
    "ChoiceRow",
    "Compression",
    "Difference",
    "Interval",
    "LabelledAnswers",
    "Measure",
    "TextLosses",
    "answer_labelled",
    "bits_per_byte",
    "calibrate",
    "choice_scores",
    "compress",
    "difference",
    "draw_reliability",
    "interval",
    "read_choices",
    "read_documents",
    "text_losses",
]
