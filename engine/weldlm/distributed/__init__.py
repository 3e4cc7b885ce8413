"""Training on several processes that somebody else started: torchrun, Slurm, Ray Train, accelerate.

Each of them, a rank, takes its share of every step. What is decided is decided on all ranks
together, from numbers that all of them have; files are written by the first.
"""

from weldlm.distributed.ranks import Ranks, StopVote, join_ranks
from weldlm.distributed.replica import Replica, build_replica, held_part

__all__ = [
    "Ranks",
    "Replica",
    "StopVote",
    "build_replica",
    "held_part",
    "join_ranks",
]
