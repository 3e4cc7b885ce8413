"""Matrices in panels of 16 output channels, as the CPU kernels read the weight of a linear layer.

csrc/cpu/packed_weight.hpp describes the layouts.
"""

from torch import Tensor
from torch.nn.functional import pad

__all__ = ["PANEL_CHANNELS", "by_channel", "by_panel", "padded"]

PANEL_CHANNELS = 16


def by_panel(rows: Tensor) -> Tensor:
    """[panels * 16, depth, ...] to [panels, depth, 16, ...]."""
    panels: Tensor = rows.unflatten(0, (-1, PANEL_CHANNELS))
    return panels.transpose(1, 2).contiguous()


def by_channel(panels: Tensor) -> Tensor:
    """[panels, depth, 16, ...] to [panels * 16, depth, ...]."""
    return panels.transpose(1, 2).flatten(0, 1)


def padded(rows: Tensor, multiple: int = 1, fill: float = 0) -> Tensor:
    """Fills [N, K] up to whole panels of channels, and to a `multiple` along K."""
    missing = -rows.shape[0] % PANEL_CHANNELS, -rows.shape[1] % multiple
    if missing == (0, 0):
        return rows
    filled: Tensor = pad(rows, (0, missing[1], 0, missing[0]), value=fill)
    return filled
