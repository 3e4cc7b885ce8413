"""The model as a rank holds it: whole, with gradients averaged over all ranks (DDP), or in part.

Each rank's loss is divided by the labels of all ranks over the number of ranks, so that the average
of their losses and gradients is that of all labels.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import get_total_norm

from weldlm.distributed.ranks import Ranks
from weldlm.heads import Model
from weldlm.train_settings import TrainSettings

__all__ = ["Replica", "build_replica", "held_part"]


@dataclass(frozen=True, slots=True)
class Replica:
    """A model, and what runs it so that the gradients of all ranks meet."""

    model: Model  # with the weights that an optimizer steps
    module: nn.Module  # forward and backward go through this
    ranks: Ranks
    skeleton: Model | None = None  # of the model without weights, where ranks hold parts of them

    @property
    def is_sharded(self) -> bool:
        """Whether ranks hold parts of the weights, and need as many forwards as one another."""
        return self.skeleton is not None

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """For all micro-batches of a step but the last: their gradients stay on the rank.

        Sharded gradients meet after each, because a rank has no room for the whole ones.
        """
        if isinstance(self.module, DistributedDataParallel):
            with self.module.no_sync():
                yield
        else:
            yield

    def gradient_norm(self) -> Tensor:
        """Returns the norm of all gradients, over all parts of them; all ranks call it."""
        weights = self.model.parameters()
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        return self._whole(get_total_norm(gradients, foreach=True))

    def whole_model(self, device: torch.device | str = "cpu") -> Model:
        """Returns the model with all weights; all ranks call it.

        Where ranks hold parts, it is a copy, on `device` of the first; the others get one without.
        """
        if self.skeleton is None:
            return self.model
        from weldlm.distributed.sharding import skeleton_of

        model = skeleton_of(self.skeleton)
        state = self.whole_tensors(self.model.state_dict(), device)
        if self.ranks.is_first:
            model.load_state_dict(state, assign=True)
        return model.train(self.model.training)

    def whole_tensors(
        self, tensors: Mapping[str, Tensor], device: torch.device | str = "cpu"
    ) -> dict[str, Tensor]:
        """Returns all of each tensor on the first rank; all ranks call it."""
        if self.skeleton is None:
            return dict(tensors)
        found = {}
        for name, tensor in tensors.items():
            complete = self._whole(tensor)
            if self.ranks.is_first:
                found[name] = complete.to(device)
        return found

    def _whole(self, tensor: Tensor) -> Tensor:
        if self.skeleton is None:
            return tensor
        from weldlm.distributed.sharding import whole

        return whole(tensor)


def build_replica(model: Model, ranks: Ranks, settings: TrainSettings) -> Replica:
    """Makes `model` ready to train on all ranks, with the weights of the first.

    Args:
        model: itself is what is trained, and is left in parts where the settings ask for them.
        ranks: that train.
        settings: with their dtype known.

    Raises:
        ValueError: the settings do not go with weights in parts.
    """
    if ranks.world_size == 1:
        return Replica(model, model, ranks)
    if settings.parallel != "fsdp":
        return Replica(model, _averaging(model), ranks)
    # here, because it takes a second that others need not wait
    from weldlm.distributed.sharding import shard, skeleton_of

    skeleton = skeleton_of(model)
    shard(model, settings)
    return Replica(model, model, ranks, skeleton)


def held_part(value: Tensor, like: Tensor) -> Tensor:
    """Returns what this rank holds of a whole tensor where `like` is sharded; else all of it."""
    if type(like) in (Tensor, nn.Parameter):
        return value
    from weldlm.distributed.sharding import part_of

    return part_of(value, like)


def _averaging(model: Model) -> DistributedDataParallel:
    with warnings.catch_warnings():
        # torch 2.13 has another name for broadcast_buffers, which 2.11 does not know
        warnings.simplefilter("ignore", FutureWarning)
        # tables of positions are the same everywhere, and nothing changes them
        return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)
