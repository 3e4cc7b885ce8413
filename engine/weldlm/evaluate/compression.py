"""How well a model predicts text: bits per byte, and what a compressor needs for the same text."""

import lzma
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from weldlm.heads import CausalLM
from weldlm.packing import PackedBatch
from weldlm.scoring import label_scores

__all__ = ["Compression", "bits_per_byte", "compress", "window_losses"]

_TOKENS_PER_FORWARD = 4_096

# the place of a document, ids of a part of it, the index of the first one that is predicted
_Window = tuple[int, np.ndarray, int]


@dataclass(frozen=True, slots=True)
class Compression:
    """Bits per byte that xz (preset 9e) needs."""

    each_alone: float
    all_in_one: float


def bits_per_byte(
    model: CausalLM,
    documents: Iterable[Sequence[int] | np.ndarray],
    num_bytes: int,
    *,
    stride: int | None = None,
    report: Callable[[int], None] | None = None,
) -> float:
    """Measures -log2 p of all documents over their size, predicting every token but the first.

    Long documents are read in windows of the context length that move by `stride`; each token is
    predicted once, by the window that gives it most context.

    Args:
        model: predicts on the device of its weights.
        documents: ids, each beginning with the id that starts a document.
        num_bytes: size of all documents as UTF-8 text.
        stride: tokens; half the context length where None.
        report: called now and then with the number of tokens predicted so far.

    Raises:
        ValueError: there is nothing to predict.
    """
    total, num_predicted = 0.0, 0
    for _, losses in window_losses(model, documents, stride=stride):
        total, num_predicted = total + float(losses.sum()), num_predicted + len(losses)
        if report is not None:
            report(num_predicted)
    if num_bytes < 1:
        raise ValueError("the documents hold no bytes; expected at least one")
    return total / math.log(2) / num_bytes


def window_losses(
    model: CausalLM, documents: Iterable[Sequence[int] | np.ndarray], *, stride: int | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the windows of `bits_per_byte`: (place of its document, losses [tokens] in nats)."""
    context_length = model.config.context_length
    stride = max(1, context_length // 2) if stride is None else stride
    if not 1 <= stride < context_length:
        raise ValueError(
            f"stride is {stride}; expected 1 to {context_length - 1}, less than the model's "
            "context_length, so that each token has one before it"
        )
    device = next(model.parameters()).device
    for group in _groups(_windows(documents, context_length, stride)):
        labels = np.concatenate([_labels(ids, first) for _, ids, first in group])
        batch = PackedBatch.from_sequences([torch.from_numpy(ids) for _, ids, _ in group], device)
        scores = label_scores(model, batch, torch.from_numpy(labels).to(device))
        counts = [len(ids) - first for _, ids, first in group]
        for (document, _, _), part in zip(group, scores.logprobs.split(counts), strict=True):
            yield document, -part.double().numpy()


def compress(texts: Sequence[bytes]) -> Compression:
    """Compresses each text alone, and all of them one after the other."""
    num_bytes = sum(len(text) for text in texts)
    each_alone = sum(_xz_size(text) for text in texts)
    return Compression(8 * each_alone / num_bytes, 8 * _xz_size(b"".join(texts)) / num_bytes)


def _xz_size(text: bytes) -> int:
    return len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))


def _windows(
    documents: Iterable[Sequence[int] | np.ndarray], context_length: int, stride: int
) -> Iterator[_Window]:
    for place, document in enumerate(documents):
        ids = np.asarray(document, dtype=np.int64)
        end, first = min(len(ids), context_length), 1
        while first < len(ids):
            start = end - min(end, context_length)
            yield place, ids[start:end], first - start
            first, end = end, min(len(ids), end + stride)


def _labels(window: np.ndarray, first: int) -> np.ndarray:
    labels = np.full(len(window), -100, dtype=np.int64)
    labels[first - 1 : -1] = window[first:]
    return labels


def _groups(windows: Iterable[_Window]) -> Iterator[list[_Window]]:
    group: list[_Window] = []
    for window in windows:
        if group and sum(len(ids) for _, ids, _ in group) + len(window[1]) > _TOKENS_PER_FORWARD:
            yield group
            group = []
        group.append(window)
    if group:
        yield group
