"""Which of two sentences that differ in the people they speak of a model finds more probable."""

from weldlm.bias.bias_sets import BiasPair, BiasSet, SentenceTriple, read_bias_set
from weldlm.bias.card_section import add_to_card
from weldlm.bias.measure import BiasReport, Share, measure_bias, pair_margins

__all__ = [
    "BiasPair",
    "BiasReport",
    "BiasSet",
    "SentenceTriple",
    "Share",
    "add_to_card",
    "measure_bias",
    "pair_margins",
    "read_bias_set",
]
