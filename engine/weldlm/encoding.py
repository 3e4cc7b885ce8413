"""Rows of ids through an encoder: packed by length, under a budget of tokens."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from weldlm.config import ModelConfig, Pooling
from weldlm.heads import SentenceEmbedder
from weldlm.packing import PackedBatch
from weldlm.tokenizer import Tokenizer

__all__ = ["embed", "encode_text", "length_groups", "mask_token", "packed_batches"]

_USUAL_MASKS = ("[MASK]", "<mask>")


def encode_text(config: ModelConfig, tokenizer: Tokenizer, text: str) -> list[int]:
    """Returns the ids that an encoder reads, with the special tokens around them.

    Raises:
        ValueError: there are none, or more than the model's context takes.
    """
    ids = tokenizer.encode(text, add_special_tokens=True)
    if not ids:
        raise ValueError("the text is empty; expected at least one token")
    if len(ids) > config.context_length and config.positions != "relative":
        raise ValueError(
            f"the text has {len(ids)} tokens; expected at most the model's context_length "
            f"{config.context_length}; shorten it"
        )
    return ids


def mask_token(tokenizer: Tokenizer) -> str | None:
    """Returns the mask that the tokenizer's folder names, else one by its usual names."""
    usual = (name for name in _USUAL_MASKS if name in tokenizer.special_tokens)
    return tokenizer.config.roles.get("mask_token") or next(usual, None)


def packed_batches(
    rows: Sequence[Sequence[int]], *, max_batch_tokens: int, device: torch.device | str
) -> Iterator[tuple[list[int], PackedBatch]]:
    """Yields (places, batch), the longest rows first, so that what does not fit fails at once.

    Args:
        rows: ids, none empty.
        max_batch_tokens: of a batch; a longer row is alone.
        device: of the batches.
    """
    lengths = [len(row) for row in rows]
    for places in length_groups(lengths, max_batch_tokens=max_batch_tokens):
        yield places, PackedBatch.from_sequences([rows[place] for place in places], device)


def length_groups(lengths: Sequence[int], *, max_batch_tokens: int) -> Iterator[list[int]]:
    """Yields places of rows, the longest first, as many together as the budget takes, or one."""
    places: list[int] = []
    num_tokens = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if places and num_tokens + lengths[place] > max_batch_tokens:
            yield places
            places, num_tokens = [], 0
        places.append(place)
        num_tokens += lengths[place]
    if places:
        yield places


@torch.inference_mode()
def embed(
    model: SentenceEmbedder,
    rows: Sequence[Sequence[int]],
    *,
    pooling: Pooling = "mean",
    is_normalized: bool = True,
    max_batch_tokens: int = 4_096,
) -> Tensor:
    """Returns the embedding of each row, [R, hidden_size] fp32 on the CPU."""
    found = torch.empty(len(rows), model.config.hidden_size)
    device = next(model.parameters()).device
    batches = packed_batches(rows, max_batch_tokens=max_batch_tokens, device=device)
    for places, batch in batches:
        vectors = model(batch, pooling=pooling, is_normalized=is_normalized)
        found[places] = vectors.float().cpu()
    return found
