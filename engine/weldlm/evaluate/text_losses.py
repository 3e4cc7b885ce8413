"""Losses of a model on text, document by document, and the figures made of them."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weldlm.evaluate.compression import window_losses
from weldlm.heads import CausalLM
from weldlm.scoring import TextScorer
from weldlm.text_file import decode_text, parse_json

__all__ = ["TextLosses", "read_documents", "text_losses"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

# fewer documents are resampled by blocks of them, of so many bytes at most
_FEWEST_PIECES = 20
_FEWEST_BYTES, _BLOCK_BYTES = 64, 1_024


@dataclass(frozen=True, slots=True)
class TextLosses:
    """What a model says of pieces of text, [pieces] each."""

    nats: Floats
    num_tokens: Floats
    num_bytes: Floats  # as UTF-8

    def perplexity(self, indices: Indices) -> float:
        """exp of the mean loss of a token; infinite where that overflows."""
        mean = self.nats[indices].sum() / self.num_tokens[indices].sum()
        return math.exp(mean) if mean < 700 else math.inf

    def bits_per_byte(self, indices: Indices) -> float:
        """Does not depend on the tokenizer, so that it compares any two models."""
        return float(self.nats[indices].sum() / self.num_bytes[indices].sum() / math.log(2))


def text_losses(
    scorer: TextScorer,
    texts: Sequence[str],
    *,
    stride: int | None = None,
    report: Callable[[int, int], None] | None = None,
) -> TextLosses:
    """Scores documents: every token by a decoder from up to a context of those before it.

    A piece is a document; where there are fewer than 20, a part of one, the same for every model.

    By an encoder, or an encoder-decoder, every token from the others of its window, which takes a
    forward of the window for each.

    Args:
        scorer: the model.
        texts: the documents.
        stride: tokens by which a decoder's windows move; half the context length where None.
        report: called with the number of tokens scored so far and of all.

    Raises:
        ValueError: there is no text, or the stride does not fit the context.
    """
    sizes = [len(text.encode(errors="surrogatepass")) for text in texts]
    ids = [scorer.tokenizer.encode_ordinary(text) for text in texts]
    if not any(ids):
        raise ValueError("the text is empty; expected at least one token")
    if isinstance(scorer.model, CausalLM):
        pieces = _predicted(scorer.model, scorer.start_id(), ids, stride, report)
    else:
        pieces = _hidden(scorer, ids, stride, report)
    block_bytes = max(sizes)
    if len(texts) < _FEWEST_PIECES:
        block_bytes = sum(sizes) // _FEWEST_PIECES
        block_bytes = max(_FEWEST_BYTES, min(_BLOCK_BYTES, block_bytes))
    parts = [
        _blocks(losses, size, -(-size // block_bytes))
        for losses, size in zip(pieces, sizes, strict=True)
        if len(losses)
    ]
    nats, num_tokens, num_bytes = (np.concatenate(part) for part in zip(*parts, strict=True))
    return TextLosses(nats, num_tokens, num_bytes)


def read_documents(paths: Sequence[Path]) -> list[str]:
    """Reads text files, a document each, and .jsonl files, a document in each line's "text".

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: one is not UTF-8, or a line is no object with a text.
    """
    texts: list[str] = []
    for path in paths:
        text = decode_text(path.read_bytes(), str(path))
        if path.suffix != ".jsonl":
            texts.append(text)
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            place, expected = f"{path}:{number}", '{"text": text}'
            if not line.strip():
                continue
            row = parse_json(line, place, expected=expected)
            if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                raise ValueError(f"{place} is {json.dumps(row)[:60]}; expected {expected}")
            texts.append(row["text"])
    return texts


def _blocks(losses: Floats, num_bytes: int, num_blocks: int) -> tuple[Floats, Floats, Floats]:
    """Losses, tokens and bytes of parts of a document; a token stands at its share of the bytes."""
    blocks = np.arange(len(losses)) * num_blocks // len(losses)
    return (
        np.bincount(blocks, weights=losses, minlength=num_blocks).astype(np.float64),
        np.bincount(blocks, minlength=num_blocks).astype(np.float64),
        np.full(num_blocks, num_bytes / num_blocks),
    )


def _predicted(
    model: CausalLM,
    start_id: int,
    ids: Sequence[Sequence[int]],
    stride: int | None,
    report: Callable[[int, int], None] | None,
) -> list[Floats]:
    """Losses of the tokens of each document."""
    found: list[list[Floats]] = [[] for _ in ids]
    done, total = 0, sum(map(len, ids))
    for document, losses in window_losses(model, ([start_id, *p] for p in ids), stride=stride):
        found[document].append(losses)
        done += len(losses)
        if report is not None:
            report(done, total)
    return [np.concatenate([np.empty(0), *parts]) for parts in found]


def _hidden(
    scorer: TextScorer,
    ids: Sequence[Sequence[int]],
    stride: int | None,
    report: Callable[[int, int], None] | None,
) -> list[Floats]:
    if stride is not None:
        raise ValueError("stride is of decoders; an encoder reads windows end to end: leave it out")
    before, after = scorer.template()
    size = scorer.model.config.context_length - len(before) - len(after)
    windows = [
        (document, part[start : start + size])
        for document, part in enumerate(ids)
        for start in range(0, len(part), size)
    ]
    scores = scorer.hidden_tokens([(part, range(len(part))) for _, part in windows], report=report)
    found: list[list[Floats]] = [[] for _ in ids]
    for (document, _), logprobs in zip(windows, scores, strict=True):
        found[document].append(-logprobs.double().numpy())
    return [np.concatenate([np.empty(0), *parts]) for parts in found]
