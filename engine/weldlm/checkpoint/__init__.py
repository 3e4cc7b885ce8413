"""Checkpoints: `out/checkpoint-<step>/`, a Hugging Face model folder with `state/` inside.

`state/run.json` says where the run stands and `state/rng.safetensors` holds torch's random
generators. Weights and optimizer averages are whole, in files that the first rank writes, or in
parts, in files that every rank writes (`torch.distributed.checkpoint`), at once or while training
goes on. The folder is sealed (see weldlm.sealed_folder), so a checkpoint that exists is whole
unless the disk damaged it; any number of ranks goes on from it, in whichever way it was written.
"""

from weldlm.checkpoint.folders import Search, checkpoint_folder, newest_valid, read_state
from weldlm.checkpoint.restoring import is_in_parts, load_weights, restore
from weldlm.checkpoint.run_state import Best, RunState, check_same_run, config_values
from weldlm.checkpoint.saver import Saver
from weldlm.checkpoint.whole_files import load_trained

__all__ = [
    "Best",
    "RunState",
    "Saver",
    "Search",
    "check_same_run",
    "checkpoint_folder",
    "config_values",
    "is_in_parts",
    "load_trained",
    "load_weights",
    "newest_valid",
    "read_state",
    "restore",
]
