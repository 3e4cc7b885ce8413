"""Proof on the user's own batch: loss and gradients before and after a patch.

The judge is the same model in fp64. Each result's distance to it, as a vector, may be twice that of
the model before the patch, plus a few roundings.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Gradients", "compare", "exact_gradients", "loss_and_gradients"]

Gradients = dict[str, Tensor]

# roundings granted beyond twice the error before: of the tensor, and of the largest gradient, which
# bounds the noise of gradients that are zero but for rounding (of a bias before a softmax)
_ROUNDINGS = 8.0
_ROUNDINGS_OF_LARGEST = 0.1


def loss_and_gradients(model: nn.Module, batch: Mapping[str, Any]) -> Gradients:
    """The loss and the gradient of every parameter, by name; `.grad` is left alone.

    The model runs without dropout, and without a cache.
    """
    was_training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.enable_grad():
            loss = model(**batch).loss
            if loss is None:
                raise ValueError("verify: the batch gives no loss; expected labels in it")
            weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
            grads = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    finally:
        for module, is_training in was_training.items():
            module.training = is_training
    found = {
        name: torch.zeros_like(weight) if grad is None else grad
        for (name, weight), grad in zip(weights.items(), grads, strict=True)
    }
    return {"loss": loss.detach()} | found


def exact_gradients(model: nn.Module, batch: Mapping[str, Any]) -> Gradients:
    """As `loss_and_gradients`, of a copy of the model in fp64."""
    exact = copy.deepcopy(model).double()
    for module in exact.modules():
        config = vars(module).get("config")
        if config is not None and getattr(config, "_attn_implementation", None) == "eager":
            # transformers' eager softmax is in fp32, where the mask of fp64 is infinite
            config._attn_implementation = "sdpa"
    in_fp64 = {
        name: value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in batch.items()
    }
    return loss_and_gradients(exact, in_fp64)


def compare(before: Gradients, after: Gradients, exact: Gradients) -> list[str]:
    """What of `after` is further from `exact` than the rule allows, a line each."""
    largest = max((float(grad.norm()) for name, grad in exact.items() if name != "loss"), default=0)
    lines = []
    for name, reference in exact.items():
        dtype = before[name].dtype
        roundings = _ROUNDINGS * float(reference.norm())
        if name != "loss":
            roundings += _ROUNDINGS_OF_LARGEST * largest
        error = float((after[name].double() - reference).norm())
        error_before = float((before[name].double() - reference).norm())
        allowed = 2 * error_before + roundings * torch.finfo(dtype).eps
        if not error <= allowed:
            lines.append(
                f"{name}: error {error:.3g} > allowed {allowed:.3g} (before: {error_before:.3g})"
            )
    return lines
