"""What the operations ask of the dtypes of their tensors."""

from torch import Tensor

__all__ = ["require_floating_point"]


def require_floating_point(name: str, x: Tensor) -> None:
    """Refuses integers, in which the mathematics of the operations would be cut off.

    Raises:
        TypeError: `x` has no floating-point dtype.
    """
    if not x.is_floating_point():
        raise TypeError(
            f"{name} is {x.dtype}; expected float32, float16, bfloat16 or float64; convert it"
        )
