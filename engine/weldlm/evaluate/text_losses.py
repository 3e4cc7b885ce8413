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

# fewer documents are resampled by the windows that they were read in
_FEWEST_DOCUMENTS = 20


@dataclass(frozen=True, slots=True)
class TextLosses:
    """What a model says of pieces of text, [pieces] each."""

    nats: Floats
    num_tokens: Floats
    num_bytes: Floats  # as UTF-8; those of a window by its share of the document's tokens

    def perplexity(self, indices: Indices) -> float:
        """exp of the mean loss of a token; infinite where that overflows."""
        mean = self.nats[indices].sum() / self.num_tokens[indices].sum()
        return math.exp(mean) if mean < 700 else math.inf

    def bits_per_byte(self, indices: Indices) -> float:
        """Does not depend on the tokenizer, so that it compares any two models."""
        return float(self.nats[indices].sum() / self.num_bytes[indices].sum() / math.log(2))

    def by_document(self, documents: Indices) -> "TextLosses":
        """Adds up the pieces of each document, given the document of each piece."""
        nats, num_tokens, num_bytes = (
            np.bincount(documents, weights=part).astype(np.float64)
            for part in (self.nats, self.num_tokens, self.num_bytes)
        )
        has_text = num_tokens > 0
        return TextLosses(nats[has_text], num_tokens[has_text], num_bytes[has_text])


def text_losses(
    scorer: TextScorer,
    texts: Sequence[str],
    *,
    stride: int | None = None,
    by_windows: bool | None = None,
    report: Callable[[int, int], None] | None = None,
) -> TextLosses:
    """Scores documents: every token by a decoder from up to a context of those before it.

    By an encoder, or an encoder-decoder, every token from the others of its window, which takes a
    forward of the window for each.

    Args:
        scorer: the model.
        texts: the documents.
        stride: tokens by which a decoder's windows move; half the context length where None.
        by_windows: whether a piece is a window; where None, if there are fewer than 20 documents.
        report: called with the number of tokens scored so far and of all.

    Raises:
        ValueError: there is no text, or the stride does not fit the context.
    """
    sizes = [len(text.encode(errors="surrogatepass")) for text in texts]
    ids = [scorer.tokenizer.encode_ordinary(text) for text in texts]
    total = sum(map(len, ids))
    if not total:
        raise ValueError("the text is empty; expected at least one token")
    if isinstance(scorer.model, CausalLM):
        pieces = _predicted(scorer.model, scorer.start_id(), ids, total, stride, report)
    else:
        pieces = _hidden(scorer, ids, stride, report)
    documents, nats, counts = (np.array(part) for part in zip(*pieces, strict=True))
    bytes_of_token = np.array(sizes) / np.maximum([len(part) for part in ids], 1)
    losses = TextLosses(nats, counts.astype(np.float64), counts * bytes_of_token[documents])
    if by_windows is None:
        by_windows = len(texts) < _FEWEST_DOCUMENTS
    return losses if by_windows else losses.by_document(documents)


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


def _predicted(
    model: CausalLM,
    start_id: int,
    ids: Sequence[Sequence[int]],
    total: int,
    stride: int | None,
    report: Callable[[int, int], None] | None,
) -> list[tuple[int, float, int]]:
    pieces: list[tuple[int, float, int]] = []
    done = 0
    for piece in window_losses(model, ([start_id, *part] for part in ids), stride=stride):
        pieces.append(piece)
        done += piece[2]
        if report is not None:
            report(done, total)
    return pieces


def _hidden(
    scorer: TextScorer,
    ids: Sequence[Sequence[int]],
    stride: int | None,
    report: Callable[[int, int], None] | None,
) -> list[tuple[int, float, int]]:
    if stride is not None:
        raise ValueError("stride is of decoders; an encoder reads windows end to end: leave it out")
    before, after = scorer.template()
    size = scorer.model.config.context_length - len(before) - len(after)
    windows = [
        (document, part[start : start + size])
        for document, part in enumerate(ids)
        for start in range(0, len(part), size)
    ]
    found = scorer.hidden_tokens([(part, range(len(part))) for _, part in windows], report=report)
    return [
        (document, -float(logprobs.double().sum()), len(part))
        for (document, part), logprobs in zip(windows, found, strict=True)
    ]
