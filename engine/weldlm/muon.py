"""Muon on the hidden matrices and AdamW on the rest, behind the interface of one optimizer.

Muon replaces a matrix's averaged gradient by the nearest orthogonal matrix, up to a scale
(https://kellerjordan.github.io/posts/muon/). Its author advises it for the matrices of the hidden
layers alone, and for matrices that do one thing: where a layer holds q, k and v, or gate and up, in
one weight, each part is made orthogonal by itself. Updates have the size of AdamW's (0.2 * lr in
the mean square, arXiv 2502.16982), so that both take one learning rate.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from weldlm.layers import Attention, Block, CrossAttention, Mlp

__all__ = ["MuonAndAdamW", "hidden_matrices"]


def hidden_matrices(model: nn.Module) -> dict[str, list[int]]:
    """The matrices inside the blocks, and how many rows each of the parts takes that it is of."""
    sizes = {
        f"{prefix}.{name}": [len(weight)]
        for prefix, block in model.named_modules()
        if isinstance(block, Block)
        for name, weight in block.named_parameters()
        if weight.dim() == 2
    }
    stacked = {
        f"{prefix}.{name}": rows
        for prefix, module in model.named_modules()
        for name, rows in _stacked_rows(module).items()
    }
    return {name: stacked.get(name, rows) for name, rows in sizes.items()}


def _stacked_rows(module: nn.Module) -> dict[str, list[int]]:
    match module:
        case Attention():
            heads = (module.num_heads, module.num_kv_heads, module.num_kv_heads)
            return {"qkv.weight": [num_heads * module.head_dim for num_heads in heads]}
        case CrossAttention():
            return {"kv.weight": [module.kv.out_features // 2] * 2}
        case Mlp(is_gated=True):
            return {"up.weight": [module.up.out_features // 2] * 2}
    return {}


class MuonAndAdamW(Optimizer):
    """torch's Muon for the groups of `matrices`, torch's AdamW for those of `others`.

    The state of a matrix is `momentum_buffer`, of its shape, whatever parts it is made of.
    """

    def __init__(
        self,
        matrices: Sequence[dict[str, Any]],
        others: Sequence[dict[str, Any]],
        *,
        part_rows: Mapping[Tensor, Sequence[int]],
        lr: float,
        betas: tuple[float, float],
        eps: float,
    ) -> None:
        """Builds both.

        Args:
            matrices: groups of weights of two dimensions, with their weight_decay.
            others: groups of all else, with theirs.
            part_rows: how many rows each part takes, for every weight of `matrices`.
            lr: of all groups, until it is set.
            betas: of AdamW.
            eps: of AdamW.
        """
        # `fused` tells load_state_dict where AdamW wants its count of steps
        groups = [
            *({"fused": False, **group} for group in matrices),
            *({"fused": True, **group} for group in others),
        ]
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})
        self._num_matrix_groups = len(matrices)
        self._part_rows = dict(part_rows)
        self._parts = {
            weight: [nn.Parameter(part) for part in weight.detach().split(list(rows))]
            for weight, rows in part_rows.items()
        }
        self._muon = torch.optim.Muon(
            [
                {**group, "params": [part for w in group["params"] for part in self._parts[w]]}
                for group in matrices
            ],
            lr=lr,
            adjust_lr_fn="match_rms_adamw",
        )
        self._adamw: torch.optim.AdamW | None = None
        if others:
            others = [{**group} for group in others]
            self._adamw = torch.optim.AdamW(others, lr=lr, betas=betas, eps=eps, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Takes a step of both, with the learning rate and the decay that each group has now."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._share_rates()
        self._point_at_parts()
        self._muon.step()
        for part in self._muon.state:
            part.grad = None
        if self._adamw is not None:
            self._adamw.state = self.state
            self._adamw.step()
        return loss

    def _share_rates(self) -> None:
        inner = [*self._muon.param_groups, *(self._adamw.param_groups if self._adamw else [])]
        for group, theirs in zip(self.param_groups, inner, strict=True):
            theirs["lr"], theirs["weight_decay"] = group["lr"], group["weight_decay"]

    def _point_at_parts(self) -> None:
        """Makes the parts, their gradients and their averages views of those of the matrices."""
        for weight, parts in self._parts.items():
            if weight.grad is None:
                continue
            rows = list(self._part_rows[weight])
            state = self.state[weight]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(weight)
            wholes = (weight.detach(), weight.grad, state["momentum_buffer"])
            for part, data, grad, average in zip(
                parts, *(whole.split(rows) for whole in wholes), strict=True
            ):
                part.data, part.grad = data, grad
                self._muon.state[part]["momentum_buffer"] = average
