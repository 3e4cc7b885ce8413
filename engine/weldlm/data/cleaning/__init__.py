"""What is taken out of texts before a model learns from them, a named step at a time."""

from weldlm.data.cleaning.building import build_steps
from weldlm.data.cleaning.rules import RULE_SETS, RULES
from weldlm.data.cleaning.settings import CleanSettings
from weldlm.data.cleaning.steps import Cleaner, Step
from weldlm.data.cleaning.tally import Sample, StepCount, Tally

__all__ = [
    "RULES",
    "RULE_SETS",
    "CleanSettings",
    "Cleaner",
    "Sample",
    "Step",
    "StepCount",
    "Tally",
    "build_steps",
]
