"""Which class is the head of that kind."""

from weldlm.config import HeadKind, ModelConfig
from weldlm.heads.classification import (
    QuestionAnswerer,
    Regressor,
    SequenceClassifier,
    TokenClassifier,
)
from weldlm.heads.language import CausalLM, MaskedLM
from weldlm.heads.model import Model
from weldlm.heads.sentence import SentenceEmbedder
from weldlm.heads.seq2seq import Seq2SeqLM

__all__ = ["HEADS", "language_head"]

HEADS: dict[HeadKind, type[Model]] = {
    "causal_lm": CausalLM,
    "masked_lm": MaskedLM,
    "seq2seq_lm": Seq2SeqLM,
    "sequence_classification": SequenceClassifier,
    "regression": Regressor,
    "token_classification": TokenClassifier,
    "question_answering": QuestionAnswerer,
    "embedding": SentenceEmbedder,
}


def language_head(config: ModelConfig) -> HeadKind:
    """The kind of head with which a model of this configuration learns from plain text."""
    if config.has_cross_attention:
        return "seq2seq_lm"
    return "causal_lm" if config.is_decoder else "masked_lm"
