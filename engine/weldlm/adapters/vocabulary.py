"""Another number of token ids for a pretrained model."""

import dataclasses

import torch
from torch import Tensor, nn

from weldlm.heads import Model
from weldlm.heads.language import VocabularyModel
from weldlm.transformer import Transformer

__all__ = ["resize_vocabulary"]

_NOISE = 0.01  # of the standard deviation of the old rows, by channel


@torch.no_grad()
def resize_vocabulary(model: Model, vocab_size: int) -> None:
    """Changes the number of token ids, in place: embedding, head and configuration.

    Ids that stay keep their rows. A new row is the mean of all old ones plus normal noise of a
    hundredth of their standard deviation in each channel, from torch's generator: its score begins
    close to that of an average token. Weights are new parameters; build the optimizer afterwards.

    Raises:
        ValueError: `vocab_size` is less than 1, or a special id lies outside it.
    """
    config = model.config
    if config.pad_id is not None and config.pad_id >= vocab_size > 0:
        raise ValueError(f"pad_id is {config.pad_id}; expected an id below vocab_size {vocab_size}")
    resized = dataclasses.replace(config, vocab_size=vocab_size)
    # two stacks share one module
    for module in {id(tokens): tokens for tokens in _token_embeddings(model)}.values():
        module.weight = _resized(module.weight, vocab_size)
        module.num_embeddings = vocab_size
    if isinstance(model, VocabularyModel):
        if isinstance(model.head, nn.Linear):
            model.head.weight = _resized(model.head.weight, vocab_size)
            model.head.out_features = vocab_size
        if model.head_bias is not None:
            model.head_bias = _resized(model.head_bias, vocab_size)
    model.config = resized


def _token_embeddings(model: Model) -> list[nn.Embedding]:
    tables = [stack.embedding.tokens for stack in model.modules() if isinstance(stack, Transformer)]
    plain = [tokens for tokens in tables if isinstance(tokens, nn.Embedding)]
    if len(plain) < len(tables):
        raise ValueError(
            "the token embedding is packed in 8 bits; expected plain weights; resize the "
            "vocabulary before the model is quantized"
        )
    return plain


def _resized(weight: Tensor, num_rows: int) -> nn.Parameter:
    """The first rows, and new ones where there are too few."""
    rows: Tensor = weight[:num_rows].clone()
    missing = num_rows - rows.shape[0]
    if missing > 0:
        values = weight.float()  # a 16-bit mean of many rows loses digits
        mean, std = values.mean(dim=0), values.std(dim=0, correction=0)
        noise = torch.randn(missing, *rows.shape[1:], device=rows.device)
        rows = torch.cat((rows, (mean + _NOISE * std * noise).to(rows.dtype)))
    return nn.Parameter(rows, requires_grad=weight.requires_grad)
