"""What a run or a cache takes in memory at least, checked before anything is allocated or written.

Training holds for each weight 4 bytes of it, of its gradient and of each of AdamW's two averages:
16 * num_parameters. A token of a step takes 3 int64 (id, position, label), twice, because the next
step is drawn while this one runs: 48 * rows_per_step * row_length. Backward keeps the input of each
layer, in 2 bytes or more: 2 * num_layers * hidden_size for each token of a micro-batch. The cache
of generation holds keys and values: 2 * num_layers * num_kv_heads * head_dim * bytes of a number
for each of num_sequences * capacity tokens. All are lower bounds: what is refused cannot run.
"""

import os
from pathlib import Path

import torch

from weldlm.config import ModelConfig
from weldlm.train_settings import TrainSettings

__all__ = [
    "cache_bytes",
    "memory_bytes",
    "require_cache_memory",
    "require_memory",
    "require_training_memory",
    "step_bytes",
    "training_bytes",
]

_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_BYTES_OF_WEIGHT = 16
_BYTES_OF_TOKEN = 48
_GIB = 1 << 30


def memory_bytes(device: torch.device | str) -> int:
    """Memory of a GPU; of the machine, or the container that limits the program, for the CPU."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _CGROUP_LIMITS:
        try:
            text = path.read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():  # "max" is no limit
            limits.append(int(text))
    return min(limits)


def step_bytes(num_tokens: int) -> int:
    """What the tokens of a step take on the host."""
    return _BYTES_OF_TOKEN * num_tokens


def training_bytes(config: ModelConfig, num_tokens: int) -> int:
    """What the weights, with all that belongs to them, and a micro-batch take on the device."""
    activations = 2 * config.num_layers * config.hidden_size * num_tokens
    return _BYTES_OF_WEIGHT * config.num_parameters + activations


def cache_bytes(
    config: ModelConfig, num_sequences: int, capacity: int, *, bytes_of_number: int
) -> int:
    """What the keys and values of that many sequences take."""
    width = config.num_kv_heads * config.head_dim * bytes_of_number
    return 2 * config.num_layers * width * num_sequences * capacity


def require_training_memory(
    config: ModelConfig, settings: TrainSettings, device: torch.device | str
) -> None:
    """Refuses a run that cannot fit.

    Raises:
        ValueError: it does not.
    """
    row_length = settings.row_length or config.context_length
    rows = min(settings.micro_batch_rows or settings.rows_per_step, settings.rows_per_step)
    require_memory(
        training_bytes(config, rows * row_length),
        f"training {config.num_parameters:,} parameters on {rows:,} rows of {row_length:,} tokens "
        "at a time",
        device=device,
        advice="lower context_length, row_length, rows_per_step or micro_batch_rows, or take a "
        "smaller model",
    )
    require_memory(
        step_bytes(settings.rows_per_step * row_length),
        f"a step of {settings.rows_per_step:,} rows of {row_length:,} tokens",
        advice="lower rows_per_step or row_length",
    )


def require_cache_memory(
    config: ModelConfig,
    num_sequences: int,
    capacity: int,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
) -> None:
    """Refuses a cache that cannot fit.

    Raises:
        ValueError: it does not.
    """
    require_memory(
        cache_bytes(config, num_sequences, capacity, bytes_of_number=dtype.itemsize),
        f"a cache for {num_sequences:,} sequences of {capacity:,} tokens at a time",
        device=device,
        advice="lower batch_size or max_tokens",
    )


def require_memory(
    needed: int, what: str, *, advice: str, device: torch.device | str = "cpu"
) -> None:
    """Refuses `needed` bytes where there are fewer.

    Args:
        needed: bytes.
        what: begins the message and says what takes them.
        advice: how it takes less.
        device: whose memory it is.

    Raises:
        ValueError: there are fewer.
    """
    available = memory_bytes(device)
    if needed > available:
        raise ValueError(
            f"{what} takes at least {needed / _GIB:,.1f} GiB of memory; expected at most the "
            f"{available / _GIB:,.1f} GiB there are; {advice}"
        )
