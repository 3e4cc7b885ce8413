"""Which tokens have embeddings like a token's, by the cosine of their angle."""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["nearest_tokens"]

_ROWS_AT_ONCE = 64  # of queries, against the whole table


@torch.no_grad()
def nearest_tokens(table: Tensor, ids: Tensor, *, top_k: int = 8) -> tuple[Tensor, Tensor]:
    """Returns the nearest other tokens of each, the nearest first.

    Args:
        table: [vocab_size, hidden_size], of embeddings.
        ids: [N] int64.
        top_k: most neighbors of each.

    Returns:
        ids [N, top_k] int64 and cosines [N, top_k] fp32; fewer columns of a smaller table.

    Raises:
        ValueError: `top_k` is below 1, or an id is none of the table.
    """
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; expected at least 1")
    outside = ids[(ids < 0) | (ids >= len(table))]
    if len(outside):
        raise ValueError(f"ids has {int(outside[0])}; expected 0 to {len(table) - 1}")
    directions = functional.normalize(table.float(), dim=1)
    found, cosines = [], []
    for rows in ids.to(table.device).split(_ROWS_AT_ONCE):
        likeness = directions[rows] @ directions.t()
        likeness.scatter_(1, rows.unsqueeze(1), float("-inf"))  # a token is not its own neighbor
        best = likeness.topk(min(top_k, len(table) - 1), dim=1)
        found.append(best.indices.cpu())
        cosines.append(best.values.cpu())
    return torch.cat(found), torch.cat(cosines)
