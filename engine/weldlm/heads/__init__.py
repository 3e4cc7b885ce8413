"""What a transformer's hidden states are used for; every loss lives inside forward.

So wrappers that gather weights or hook gradients around forward (DDP, FSDP) see the whole
computation.
"""

from weldlm.heads.classification import (
    QuestionAnswerer,
    Regressor,
    SequenceClassifier,
    TokenClassifier,
)
from weldlm.heads.kinds import HEADS, language_head
from weldlm.heads.language import CausalLM, MaskedLM
from weldlm.heads.model import Model, Projection
from weldlm.heads.padded import PaddedModel
from weldlm.heads.sentence import SentenceEmbedder
from weldlm.heads.seq2seq import Seq2SeqLM

__all__ = [
    "HEADS",
    "CausalLM",
    "MaskedLM",
    "Model",
    "PaddedModel",
    "Projection",
    "QuestionAnswerer",
    "Regressor",
    "SentenceEmbedder",
    "Seq2SeqLM",
    "SequenceClassifier",
    "TokenClassifier",
    "language_head",
]
