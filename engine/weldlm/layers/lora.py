"""Linear layers with low-rank adapters (Hu et al. 2021, arXiv:2106.09685).

y = x @ W^T + bias + share * scale * (dropout(x) @ down^T) @ up^T, for each active adapter, with
scale = alpha / rank, or alpha / sqrt(rank) (Kalajdzievski 2023, arXiv:2312.03732). W may hold
several layers of the Hugging Face format one below the other; each has its pair (down, up).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from weldlm.layers.packed import PackedLinear
from weldlm.layers.quantized import QuantizedLinear, QuantizedTensors
from weldlm_kernels import PackedQuantizedWeight, PackedWeight, linear, quantized_linear

__all__ = ["BaseWeight", "LoraLinear", "LoraPair"]

BaseWeight = Tensor | QuantizedTensors | PackedWeight | PackedQuantizedWeight


class LoraPair(nn.Module):
    """What an adapter adds to the rows of a weight that begin at `begin`."""

    def __init__(
        self,
        down: Tensor,
        up: Tensor,
        *,
        begin: int,
        alpha: float,
        use_rslora: bool,
        dropout: float,
    ) -> None:
        """Takes down [rank, in_features] and up [num_rows, rank]."""
        super().__init__()
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)
        self.begin, self.alpha = begin, alpha
        self.use_rslora, self.dropout = use_rslora, dropout

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def num_rows(self) -> int:
        return self.up.shape[0]

    @property
    def scale(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.use_rslora else self.rank)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the unscaled change of the rows, [..., num_rows]."""
        x = functional.dropout(x.to(self.down.dtype), self.dropout, self.training)
        return functional.linear(functional.linear(x, self.down), self.up)

    def extra_repr(self) -> str:
        rows = f"rows={self.begin}:{self.begin + self.num_rows}"
        return f"{rows}, rank={self.rank}, scale={self.scale:g}, dropout={self.dropout:g}"


class LoraLinear(nn.Module):
    """A linear layer with adapters; weight and bias keep the names that they had without."""

    weight: BaseWeight
    bias: Tensor | None

    def __init__(self, base: nn.Linear | QuantizedLinear | PackedLinear) -> None:
        super().__init__()
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.adapters = nn.ModuleDict()  # name of the adapter, then of their layer, to LoraPair
        self.active: dict[str, float] = {}  # adapters that take part, and their shares
        self.merged: dict[str, float] = {}  # those that are in the weight

    def forward(self, x: Tensor) -> Tensor:
        y = self._without_adapters(x)
        if self.merged:
            return y
        for pair, share in self._pairs(self.active):
            y.narrow(-1, pair.begin, pair.num_rows).add_(pair(x), alpha=share * pair.scale)
        return y

    def pairs(self, name: str) -> dict[str, LoraPair]:
        """Returns the pairs of an adapter by their layer's name; none where it has none here."""
        if name not in self.adapters:
            return {}
        adapter = self.adapters[name]
        assert isinstance(adapter, nn.ModuleDict)
        return {part: pair for part, pair in adapter.items() if isinstance(pair, LoraPair)}

    @torch.no_grad()
    def merge(self) -> None:
        """Adds the active adapters to the weight, in place."""
        self.merged = dict(self.active)
        self._add_to_weight(1.0)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Takes what was merged out of the weight, in place."""
        self._add_to_weight(-1.0)
        self.merged = {}

    def _without_adapters(self, x: Tensor) -> Tensor:
        match self.weight:
            case Tensor():
                return functional.linear(x, self.weight, self.bias)
            case QuantizedTensors():
                return quantized_linear(x, self.weight.weight, self.bias)
            case PackedQuantizedWeight():
                return quantized_linear(x, self.weight, self.bias)
            case PackedWeight():
                return linear(x, self.weight, self.bias)

    def base(self) -> nn.Linear | QuantizedLinear | PackedLinear:
        """Returns the layer without adapters, with the same weight and bias."""
        if isinstance(self.weight, PackedWeight | PackedQuantizedWeight):
            return PackedLinear(self.weight, self.bias)
        if isinstance(self.weight, QuantizedTensors):
            return QuantizedLinear(self.weight, self.bias)
        # not through its own __init__, which would draw a weight
        linear = nn.Linear.__new__(nn.Linear)
        nn.Module.__init__(linear)
        linear.in_features, linear.out_features = self.in_features, self.out_features
        assert isinstance(self.weight, nn.Parameter)
        linear.weight = self.weight
        linear.bias = self.bias  # type: ignore[assignment]  # None, where there is none
        return linear

    def _add_to_weight(self, sign: float) -> None:
        assert isinstance(self.weight, Tensor)
        # rounded once: a 16-bit weight would lose small changes one by one
        total = self.weight.to(torch.promote_types(self.weight.dtype, torch.float32), copy=True)
        for pair, share in self._pairs(self.merged):
            change = pair.up.to(total.dtype) @ pair.down.to(total.dtype)
            rows = total.narrow(0, pair.begin, pair.num_rows)
            rows.add_(change, alpha=sign * share * pair.scale)
        self.weight.copy_(total)

    def _pairs(self, shares: dict[str, float]) -> list[tuple[LoraPair, float]]:
        return [
            (pair, share) for name, share in shares.items() for pair in self.pairs(name).values()
        ]
