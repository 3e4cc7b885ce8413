"""What losses over a vocabulary ask of their tensors."""

import torch
from torch import Tensor

from weldlm_kernels.dtypes import require_floating_point

__all__ = ["check_projection", "check_row_weights", "needs_gradient"]


def check_projection(hidden: Tensor, weight: Tensor, *, prefix: str = "") -> None:
    """Refuses rows that `weight` cannot project onto a vocabulary.

    Args:
        hidden: [N, hidden_size].
        weight: [vocab_size, hidden_size].
        prefix: of the names of both in messages.

    Raises:
        ValueError: the shapes do not fit.
        TypeError: `hidden` has no floating-point dtype.
    """
    require_floating_point(f"{prefix}hidden", hidden)
    if hidden.dim() != 2 or weight.dim() != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(
            f"{prefix}hidden {tuple(hidden.shape)} and {prefix}weight {tuple(weight.shape)} do not "
            "fit; expected [N, hidden_size] and [vocab_size, hidden_size]"
        )


def check_row_weights(row_weights: Tensor, num_rows: int) -> None:
    """Refuses factors of the losses of rows that no loss can take.

    Raises:
        ValueError: they are not [num_rows], or require a gradient.
        TypeError: they have no floating-point dtype.
    """
    require_floating_point("row_weights", row_weights)
    if row_weights.shape != (num_rows,):
        raise ValueError(f"row_weights {tuple(row_weights.shape)}; expected ({num_rows},)")
    if needs_gradient(row_weights):
        raise ValueError(
            "row_weights require a gradient, but the loss has none for them; expected constants; "
            "pass row_weights.detach()"
        )


def needs_gradient(x: Tensor | None) -> bool:
    return torch.is_grad_enabled() and x is not None and x.requires_grad
