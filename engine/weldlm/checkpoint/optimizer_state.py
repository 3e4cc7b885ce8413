"""What an optimizer keeps, as tensors by the names of the weights it keeps them of."""

from collections.abc import Mapping

from torch import Tensor
from torch.optim import Optimizer

from weldlm.heads import Model

__all__ = ["optimizer_tensors", "set_optimizer_tensors", "weight_name"]


def optimizer_tensors(model: Model, optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors as `<parameter>/<entry>`."""
    kept = {
        name: optimizer.state[weight]
        for name, weight in model.named_parameters()
        if weight in optimizer.state
    }
    assert len(kept) == len(optimizer.state), "the model shows other weights than it trains"
    return {
        f"{name}/{entry}": value
        for name, of_weight in kept.items()
        for entry, value in of_weight.items()
    }


def set_optimizer_tensors(
    tensors: Mapping[str, Tensor], model: Model, optimizer: Optimizer
) -> None:
    """Sets an optimizer to such tensors as `optimizer_tensors` gave; it keeps them."""
    weights = dict(model.named_parameters())
    index = {
        id(weight): place
        for place, weight in enumerate(
            weight for group in optimizer.param_groups for weight in group["params"]
        )
    }
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, entry = weight_name(key), key.rpartition("/")[2]
        state.setdefault(index[id(weights[name])], {})[entry] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def weight_name(key: str) -> str:
    """The name of the weight that a tensor of `optimizer_tensors` belongs to."""
    return key.rpartition("/")[0]
