"""One text as a model reads it, and where in the model its computation can be watched.

Nothing in a model is changed: what is of interest is read, or replaced, by hooks on its modules
that are taken off again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from weldlm.heads import Model, Seq2SeqLM
from weldlm.layers import Attention, Block, CrossAttention
from weldlm.packing import PackedBatch
from weldlm.transformer import Transformer

__all__ = [
    "AttentionKind",
    "Sample",
    "attention_layers",
    "blocks_of",
    "hooked",
    "last_stack",
    "scores_of",
]

# of a decoder or encoder alone; or of the encoder, of the decoder, and of one to the other
AttentionKind = Literal["self", "encoder", "decoder", "cross"]

Hooks = Sequence[tuple[nn.Module, Callable[..., Any]]]


@dataclass(frozen=True, slots=True)
class Sample:
    """A sequence, or what an encoder-decoder reads and writes."""

    ids: Tensor  # [T] int64; of the source, where there is a target
    target_ids: Tensor | None = None  # [U] int64, what the decoder reads: its first id is the start

    def __post_init__(self) -> None:
        for name in ("ids", "target_ids"):
            ids = getattr(self, name)
            if ids is not None and (ids.dim() != 1 or not len(ids)):
                raise ValueError(
                    f"{name} has shape {tuple(ids.shape)}; expected the ids of one text, at least "
                    "one"
                )

    def inputs(self, model: Model, num_copies: int = 1) -> tuple[PackedBatch, ...]:
        """Returns what `model.logits` takes, on the model's device: the sample, several times.

        Raises:
            ValueError: the sample has a target and the model no decoder beside its encoder, or the
                other way round.
        """
        if (self.target_ids is None) == isinstance(model, Seq2SeqLM):
            given = "no target_ids" if self.target_ids is None else "target_ids"
            expected = "some for" if self.target_ids is None else "none for a model that is not"
            raise ValueError(f"the sample has {given}; expected {expected} an encoder-decoder")
        sides = [ids.cpu() for ids in (self.ids, self.target_ids) if ids is not None]
        device = next(model.parameters()).device
        return tuple(PackedBatch.from_sequences([ids] * num_copies, device) for ids in sides)

    @property
    def num_tokens(self) -> int:
        return len(self.ids) + (0 if self.target_ids is None else len(self.target_ids))


@contextmanager
def hooked(before: Hooks = (), after: Hooks = ()) -> Iterator[None]:
    """A block in which functions are called before and after the forwards of modules."""
    handles = [module.register_forward_pre_hook(hook) for module, hook in before]
    handles += [module.register_forward_hook(hook) for module, hook in after]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def last_stack(model: Model) -> Transformer:
    """The transformer whose hidden states the head scores."""
    stack = model.decoder if isinstance(model, Seq2SeqLM) else model.get_submodule("transformer")
    assert isinstance(stack, Transformer)
    return stack


def blocks_of(stack: Transformer) -> list[Block]:
    return [block for block in stack.blocks if isinstance(block, Block)]


def attention_layers(model: Model) -> dict[AttentionKind, list[Attention | CrossAttention]]:
    """The attention modules of each kind, the first layer first."""
    if not isinstance(model, Seq2SeqLM):
        return {"self": [block.attention for block in blocks_of(last_stack(model))]}
    decoder = blocks_of(model.decoder)
    return {
        "encoder": [block.attention for block in blocks_of(model.encoder)],
        "decoder": [block.attention for block in decoder],
        "cross": [block.cross_attention for block in decoder if block.cross_attention is not None],
    }


def scores_of(model: Model, inputs: Sequence[PackedBatch]) -> Tensor:
    """Returns `model.logits`: a row for each token that the head scores, or for each sequence.

    Raises:
        ValueError: the model's head scores nothing.
    """
    logits = getattr(model, "logits", None)
    if logits is None:
        raise ValueError(
            f"the model has the head {model.kind}; expected one that scores tokens or labels"
        )
    scores = logits(*inputs)
    assert isinstance(scores, torch.Tensor)
    return scores
