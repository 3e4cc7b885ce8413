"""What the elementwise part of an MLP means, in plain PyTorch.

GELU: Hendrycks and Gimpel 2016 (arXiv:1606.08415); gating: Shazeer 2020 (arXiv:2002.05202);
squared ReLU: So et al. 2021 (arXiv:2109.08668).
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from weldlm_kernels.philox import dropout_factor

__all__ = ["ACTIVATIONS", "activate", "activate_gated"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "relu": functional.relu,
    "relu_squared": lambda x: functional.relu(x).square(),
}


def activate(
    x: Tensor, bias: Tensor | None, seed: Tensor | None, activation: str, dropout_p: float
) -> Tensor:
    """y = dropout(activation(x + bias))."""
    if bias is not None:
        x = x + bias.to(x.dtype)
    return _drop(ACTIVATIONS[activation](x), seed, dropout_p)


def activate_gated(
    x: Tensor, bias: Tensor | None, seed: Tensor | None, activation: str, dropout_p: float
) -> Tensor:
    """y = dropout(activation(gate) * up), where x + bias holds gate and up one after the other."""
    if bias is not None:
        x = x + bias.to(x.dtype)
    gate, up = x.chunk(2, dim=-1)
    return _drop(ACTIVATIONS[activation](gate) * up, seed, dropout_p)


def _drop(y: Tensor, seed: Tensor | None, dropout_p: float) -> Tensor:
    if seed is None:
        return y
    width = y.shape[-1]
    factor = dropout_factor(seed, y.numel() // width, width, dropout_p)
    return (y * factor.view(y.shape)).to(y.dtype)
