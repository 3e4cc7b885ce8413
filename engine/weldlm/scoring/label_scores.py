"""Log-probabilities of labels, without the logits of all rows at once."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from weldlm.heads import CausalLM, MaskedLM, Seq2SeqLM
from weldlm.objectives import IGNORED

__all__ = ["LabelScores", "label_scores"]

_NUMBERS_OF_LOGITS = 1 << 24  # 64 MiB in fp32


class LabelScores(NamedTuple):
    """What a model says of N labels, in the order of their rows; on the CPU."""

    logprobs: Tensor  # [N] fp32, nats
    is_best: Tensor  # [N] bool, whether no other token is more probable


@torch.inference_mode()
def label_scores(model: CausalLM | MaskedLM | Seq2SeqLM, *arguments: Any) -> LabelScores:
    """Scores the labels that are not -100; the arithmetic behind the logits is fp32.

    Args:
        model: one whose head is over the vocabulary.
        arguments: of its forward; the last is the labels.
    """
    hidden, weight, bias, labels, _ = model.projection(*arguments)
    is_labelled = labels != IGNORED
    hidden, labels = hidden[is_labelled], labels[is_labelled]
    logprobs = torch.empty(len(labels))
    is_best = torch.empty(len(labels), dtype=torch.bool)
    softcap = model.config.logits_softcap
    num_rows = max(1, _NUMBERS_OF_LOGITS // len(weight))
    for start in range(0, len(labels), num_rows):
        rows = slice(start, start + num_rows)
        logits = functional.linear(hidden[rows], weight, bias).float()
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        chosen = logits.gather(1, labels[rows, None]).squeeze(1)
        logprobs[rows] = (chosen - logits.logsumexp(dim=1)).cpu()
        is_best[rows] = (chosen >= logits.amax(dim=1)).cpu()
    return LabelScores(logprobs, is_best)
