"""What a model is trained to say: an objective turns packed sequences into inputs and labels.

Random choices hang on (seed, sample id, place in the sequence) alone, so neither the batch a sample
stands in nor the worker that prepares it changes them. Unlabelled text has a `TokenObjective`;
labelled examples are an `ExampleSet`, whose class is the objective.
"""

from weldlm.objectives.examples import EncodedTexts, ExampleSet
from weldlm.objectives.labelled import (
    AnswerSpans,
    LabelledSequences,
    LabelledTokens,
    PromptAnswers,
    ScoredSequences,
    SourceTargets,
)
from weldlm.objectives.labels import IGNORED, causal_lm_labels, seq2seq_targets
from weldlm.objectives.masked_lm import MaskedLMObjective, word_starts
from weldlm.objectives.micro_batch import MicroBatch
from weldlm.objectives.span_corruption import SpanCorruptionObjective
from weldlm.objectives.token_objective import (
    CausalLMObjective,
    TokenObjective,
    describe_objective,
)

__all__ = [
    "IGNORED",
    "AnswerSpans",
    "CausalLMObjective",
    "EncodedTexts",
    "ExampleSet",
    "LabelledSequences",
    "LabelledTokens",
    "MaskedLMObjective",
    "MicroBatch",
    "PromptAnswers",
    "ScoredSequences",
    "SourceTargets",
    "SpanCorruptionObjective",
    "TokenObjective",
    "causal_lm_labels",
    "describe_objective",
    "seq2seq_targets",
    "word_starts",
]
