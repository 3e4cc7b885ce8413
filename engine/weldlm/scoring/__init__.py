"""How probable texts are to a model, by the rule of its family.

A decoder predicts each token from those before it. An encoder with a masked-LM head, or an
encoder-decoder, predicts each token from all others, with that one hidden: the
pseudo-log-likelihood (Salazar et al. 2020, arXiv:1910.14659).
"""

from weldlm.scoring.label_scores import LabelScores, label_scores
from weldlm.scoring.text_scorer import Continuation, TextScorer, load_scorer

__all__ = ["Continuation", "LabelScores", "TextScorer", "label_scores", "load_scorer"]
