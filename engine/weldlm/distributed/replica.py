"""The model as a rank holds it: whole, with gradients averaged over all ranks (DDP).

Each rank's loss is divided by the labels of all ranks over the number of ranks, so that the average
of their losses and gradients is that of all labels.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from weldlm.distributed.ranks import Ranks
from weldlm.heads import Model

__all__ = ["Replica", "build_replica"]


@dataclass(frozen=True, slots=True)
class Replica:
    """A model, and what runs it so that the gradients of all ranks meet."""

    model: Model  # with the weights that an optimizer steps
    module: nn.Module  # forward and backward go through this
    ranks: Ranks

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """For all micro-batches of a step but the last: their gradients stay on the rank."""
        if isinstance(self.module, DistributedDataParallel):
            with self.module.no_sync():
                yield
        else:
            yield


def build_replica(model: Model, ranks: Ranks) -> Replica:
    """Makes `model` ready to train on all ranks, with the weights of the first."""
    if ranks.world_size == 1:
        return Replica(model, model, ranks)
    return Replica(model, _averaging(model), ranks)


def _averaging(model: Model) -> DistributedDataParallel:
    with warnings.catch_warnings():
        # torch 2.13 has another name for broadcast_buffers, which 2.11 does not know
        warnings.simplefilter("ignore", FutureWarning)
        # tables of positions are the same everywhere, and nothing changes them
        return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)
