"""How well a model predicts text: bits per byte, and what a compressor needs for the same text."""

import lzma
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from weldlm.heads import CausalLM
from weldlm.packing import PackedBatch

__all__ = ["Compression", "bits_per_byte", "compress"]

_TOKENS_PER_FORWARD = 4_096


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
    stride = stride or max(1, model.config.context_length // 2)
    device = model.head_weight.device
    total, num_predicted = torch.zeros((), dtype=torch.float64), 0
    with torch.inference_mode():
        for group in _groups(_windows(documents, model.config.context_length, stride)):
            ids = np.concatenate([window for window, _ in group])
            labels = np.concatenate([_labels(window, first) for window, first in group])
            lengths = [len(window) for window, _ in group]
            batch = PackedBatch.from_lengths(torch.from_numpy(ids), lengths).to(device)
            total += model(batch, torch.from_numpy(labels).to(device))[0].double().cpu()
            num_predicted += sum(len(window) - first for window, first in group)
            if report is not None:
                report(num_predicted)
    if num_bytes < 1:
        raise ValueError("the documents hold no bytes; expected at least one")
    return float(total) / math.log(2) / num_bytes


def compress(texts: Sequence[bytes]) -> Compression:
    """Compresses each text alone, and all of them one after the other."""
    num_bytes = sum(len(text) for text in texts)
    each_alone = sum(_xz_size(text) for text in texts)
    return Compression(8 * each_alone / num_bytes, 8 * _xz_size(b"".join(texts)) / num_bytes)


def _xz_size(text: bytes) -> int:
    return len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))


def _windows(
    documents: Iterable[Sequence[int] | np.ndarray], context_length: int, stride: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Windows with the index of the first token that each predicts."""
    for document in documents:
        ids = np.asarray(document, dtype=np.int64)
        end, first = min(len(ids), context_length), 1
        while first < len(ids):
            start = end - min(end, context_length)
            yield ids[start:end], first - start
            first, end = end, min(len(ids), end + stride)


def _labels(window: np.ndarray, first: int) -> np.ndarray:
    labels = np.full(len(window), -100, dtype=np.int64)
    labels[first - 1 : -1] = window[first:]
    return labels


def _groups(
    windows: Iterable[tuple[np.ndarray, int]],
) -> Iterator[list[tuple[np.ndarray, int]]]:
    group: list[tuple[np.ndarray, int]] = []
    for window in windows:
        if group and sum(len(ids) for ids, _ in group) + len(window[0]) > _TOKENS_PER_FORWARD:
            yield group
            group = []
        group.append(window)
    if group:
        yield group
