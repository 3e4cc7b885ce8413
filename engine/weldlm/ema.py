"""An exponential moving average of a model's weights.

After the n-th update, counted from 1, the average is d * average + (1 - d) * weight with
d = min(decay, (1 + n) / (10 + n)): the decay itself rises at first, so that the weights that were
drawn do not stay in the average for long.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["Ema"]


class Ema:
    """Averages of the trainable weights, in fp32 at least."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Begins with the weights that `model` has."""
        self.decay = decay
        self.num_updates = 0
        self._weights = {
            name: weight for name, weight in model.named_parameters() if weight.requires_grad
        }
        self._averages = {
            name: weight.detach().to(torch.promote_types(weight.dtype, torch.float32), copy=True)
            for name, weight in self._weights.items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the weights as they are after a step of the optimizer."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        averages = list(self._averages.values())
        weights = [
            weight.detach().to(average.dtype)
            for weight, average in zip(self._weights.values(), averages, strict=True)
        ]
        torch._foreach_lerp_(averages, weights, 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averages inside, and its own weights again after."""
        own = {name: weight.data for name, weight in self._weights.items()}
        try:
            for name, weight in self._weights.items():
                weight.data = self._averages[name].to(weight.dtype)
            yield
        finally:
            for name, weight in self._weights.items():
                weight.data = own[name]

    @torch.no_grad()
    def apply(self) -> None:
        """Gives the model the averages for good."""
        for name, weight in self._weights.items():
            weight.copy_(self._averages[name])

    def weights(self) -> dict[str, Tensor]:
        """The weights that are averaged, as the model has them, by name."""
        return {name: weight.detach() for name, weight in self._weights.items()}

    @torch.no_grad()
    def set_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Gives the model what `weights` gave."""
        for name, weight in self._weights.items():
            weight.copy_(weights[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by name, and `num_updates`."""
        return {**self._averages, "num_updates": torch.tensor(self.num_updates)}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what `state_dict` gave.

        Raises:
            ValueError: it is of other weights.
        """
        names = {*self._averages, "num_updates"}
        if state.keys() != names:
            raise ValueError(
                f"the averages given are of other weights: {min(state.keys() ^ names)} is in one "
                "of both alone; expected those of this model's trainable weights"
            )
        for name, average in self._averages.items():
            average.copy_(state[name])
        self.num_updates = int(state["num_updates"])
