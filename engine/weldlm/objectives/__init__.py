"""What a model is trained to say: an objective turns packed sequences into inputs and labels.

Random choices hang on (seed, sample id, place in the sequence) alone, so neither the batch a sample
stands in nor the worker that prepares it changes them.
"""

from weldlm.objectives.labels import IGNORED, causal_lm_labels, seq2seq_targets
from weldlm.objectives.masked_lm import MaskedLMObjective, word_starts
from weldlm.objectives.span_corruption import SpanCorruptionObjective

__all__ = [
    "IGNORED",
    "MaskedLMObjective",
    "SpanCorruptionObjective",
    "causal_lm_labels",
    "seq2seq_targets",
    "word_starts",
]
