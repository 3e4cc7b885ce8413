"""The one rule by which the project judges a numeric result.

The error against a reference computed in fp64 may be at most twice the error that PyTorch makes in
the same dtype, plus a floor for the cases in which PyTorch happens to be exact.
"""

import torch
from torch import Tensor

__all__ = ["assert_within_tolerance"]


def assert_within_tolerance(
    name: str,
    actual: Tensor,
    torch_same_dtype: Tensor,
    reference_fp64: Tensor,
    *,
    floor: float = 2.0,
) -> None:
    """Asserts max |actual - exact| <= 2 max |torch - exact| + floor * eps * max |exact|.

    Args:
        name: what is compared; stands first in the failure message.
        actual: the result to judge, in the dtype under test.
        torch_same_dtype: what PyTorch computes in that dtype from the same inputs.
        reference_fp64: what PyTorch computes in fp64 from the same inputs.
        floor: roundings of the dtype that are granted at the largest magnitude.
    """
    assert actual.shape == reference_fp64.shape == torch_same_dtype.shape, (
        f"{name}: shape {tuple(actual.shape)}, PyTorch {tuple(torch_same_dtype.shape)}, "
        f"reference {tuple(reference_fp64.shape)}; expected equal shapes"
    )
    assert actual.dtype == torch_same_dtype.dtype, (
        f"{name}: dtype {actual.dtype}; expected that of PyTorch, {torch_same_dtype.dtype}"
    )
    assert reference_fp64.dtype == torch.float64, (
        f"{name}: the reference is {reference_fp64.dtype}; expected torch.float64"
    )
    if actual.numel() == 0:
        return

    error = _error(actual, reference_fp64)
    torch_error = _error(torch_same_dtype, reference_fp64).max().item()
    assert torch_error < float("inf"), f"{name}: PyTorch is not finite in {actual.dtype}"
    magnitude = torch.where(reference_fp64.isfinite(), reference_fp64, 0.0).abs().max().item()
    allowed = 2 * torch_error + floor * torch.finfo(actual.dtype).eps * magnitude
    worst = int(error.argmax())
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(worst), actual.shape))
    assert error.max().item() <= allowed, (
        f"{name}: max error {error.max().item():.3e} > allowed {allowed:.3e} "
        f"(PyTorch in {actual.dtype}: {torch_error:.3e}, "
        f"ratio {error.max().item() / max(torch_error, 1e-300):.3g}) at {index}: "
        f"got {actual[index].item():.8g}, expected {reference_fp64[index].item():.8g}"
    )


def _error(actual: Tensor, reference: Tensor) -> Tensor:
    """Absolute error; 0 where both are the same infinity or both NaN, infinite where one is NaN."""
    actual = actual.detach().double()
    reference = reference.detach()
    error = (actual - reference).abs()
    is_equal = (actual == reference) | (actual.isnan() & reference.isnan())
    return torch.where(is_equal, 0.0, error.nan_to_num(nan=torch.inf, posinf=torch.inf))
