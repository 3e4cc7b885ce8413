"""Where weights go and in which dtype they are kept: what a caller may say, as torch takes it."""

import torch

__all__ = ["require_device", "weights_dtype"]

_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}


def weights_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """Returns the dtype of that name, or as it is; None, as stored, for None and "auto".

    Raises:
        ValueError: weights are not kept in it.
    """
    if dtype is None or dtype == "auto":
        return None
    named = _DTYPES.get(dtype.removeprefix("torch.")) if isinstance(dtype, str) else dtype
    if named not in _DTYPES.values():
        raise ValueError(
            f"dtype is {dtype!r}; expected {', '.join(map(repr, _DTYPES))}, the same of torch, or "
            "None for the dtype of the file"
        )
    return named


def require_device(device: torch.device | str | int) -> torch.device:
    """Returns the device.

    Raises:
        ValueError: it does not exist here.
    """
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device {str(device)!r} is not available here; use cpu") from error
