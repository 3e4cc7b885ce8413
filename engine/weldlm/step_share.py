"""What a rank takes of a step."""

import time
from dataclasses import dataclass

from weldlm.distributed import Replica
from weldlm.objectives import MicroBatch
from weldlm.training_data import TrainingData

__all__ = ["StepShare", "draw_share"]


@dataclass(frozen=True, slots=True)
class StepShare:
    """Micro-batches of one rank, and what the step holds on all of them."""

    step: int
    batches: list[MicroBatch]
    num_labels: int  # on all ranks
    num_tokens: int  # on all ranks
    num_padding: int  # places without a token, on this rank
    seconds: float  # that drawing it took
    labels_per_rank: float  # by which a rank divides its loss, so that the ranks' mean is exact


def draw_share(data: TrainingData, step: int, replica: Replica) -> StepShare:
    """Draws the share of this rank and counts those of all."""
    begin = time.monotonic()
    ranks = replica.ranks
    batches = data.micro_batches(step, ranks.rank, ranks.world_size)
    counts = ranks.gather(
        sum(batch.num_labels for batch in batches),
        sum(batch.num_tokens for batch in batches),
        len(batches),
    )
    num_labels, num_tokens, most_batches = zip(*counts, strict=True)
    if replica.is_sharded:
        batches += [data.no_samples()] * (int(max(most_batches)) - len(batches))
    per_rank = max(sum(num_labels), 1) / ranks.world_size
    return StepShare(
        step=step,
        batches=batches,
        num_labels=int(sum(num_labels)),
        num_tokens=int(sum(num_tokens)),
        num_padding=sum(batch.num_padding for batch in batches),
        seconds=time.monotonic() - begin,
        labels_per_rank=per_rank,
    )
