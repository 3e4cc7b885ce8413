"""What a run or a cache takes in memory at least, checked before anything is allocated or written.

Training holds the weights (4 bytes each where they are fp32) and, for each that is trained, 4 bytes
of its gradient and of each of AdamW's two averages (Muon holds one average of the matrices,
Adafactor hardly more than none), and 4 of an average of the weights. A token of a step takes 3
int64 (id, position, label), twice, because the next step is drawn while this one runs:
48 * rows_per_step * row_length. Backward keeps, for each token of a micro-batch and each layer,
what goes into two norms, four linear layers, the attention and the activation: 4 * hidden_size,
2 * num_heads * head_dim, 2 * num_kv_heads * head_dim and 2 (gated: 3) * intermediate_size numbers;
where activations are checkpointed, hidden_size for each layer but one. The cache of generation
holds keys and values: 2 * num_layers * num_kv_heads * head_dim numbers for each token, and an fp32
scale a head where they are int8. All are lower bounds: what is refused cannot run.
"""

from dataclasses import dataclass

import torch
from torch import nn

from weldlm.available_memory import available_bytes
from weldlm.config import ModelConfig
from weldlm.precision import has_fast_bfloat16
from weldlm.train_settings import OptimizerName, TrainSettings

__all__ = [
    "WeightCount",
    "cache_bytes",
    "require_cache_memory",
    "require_memory",
    "require_table_memory",
    "require_training_memory",
    "saved_bytes",
    "step_bytes",
    "table_bytes",
    "training_bytes",
]

# of its gradient and what the optimizer keeps
_BYTES_OF_TRAINED: dict[OptimizerName, int] = {"adamw": 12, "muon": 8, "adafactor": 4}
_BYTES_OF_WEIGHT = 4
_BYTES_OF_TOKEN = 48
_BYTES_OF_ANGLE = 4
_BYTES_OF_SCALE = 4
_NOT_WORTH_ASKING = 1 << 24  # bytes
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class WeightCount:
    """What of a model is there, and what of it is trained."""

    num_bytes: int  # of all weights
    num_trained: int

    @classmethod
    def of(cls, model: nn.Module) -> "WeightCount":
        """Counts those of a model, whose frozen layers may be quantized."""
        weights, tables = list(model.parameters()), list(model.buffers())
        return cls(
            sum(tensor.nbytes for tensor in (*weights, *tables)),
            sum(weight.numel() for weight in weights if weight.requires_grad),
        )


def step_bytes(num_tokens: int) -> int:
    """What the tokens of a step take on the host."""
    return _BYTES_OF_TOKEN * num_tokens


def table_bytes(config: ModelConfig) -> int:
    """What computed positions take: a number for each position and channel."""
    width = {"rotary": config.head_dim, "sinusoidal": config.hidden_size}.get(config.positions, 0)
    return _BYTES_OF_ANGLE * width * config.context_length


def saved_bytes(
    config: ModelConfig,
    num_tokens: int,
    *,
    bytes_of_number: int,
    checkpoint_activations: bool = False,
) -> int:
    """What the layers of a decoder keep of that many tokens for backward."""
    q, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    mlp = config.intermediate_size * (3 if config.is_gated else 2)
    numbers = of_layer = 4 * config.hidden_size + 2 * q + 2 * kv + mlp
    others = config.num_layers - 1
    numbers += others * (config.hidden_size if checkpoint_activations else of_layer)
    return numbers * bytes_of_number * num_tokens


def training_bytes(
    config: ModelConfig,
    settings: TrainSettings,
    num_tokens: int,
    *,
    bytes_of_number: int,
    weights: WeightCount | None = None,
) -> int:
    """What the weights, with all that belongs to them, and a micro-batch take on the device.

    All weights are trained, in fp32, where `weights` is None.
    """
    if weights is None:
        num_bytes = _BYTES_OF_WEIGHT * config.num_parameters + table_bytes(config)
        weights = WeightCount(num_bytes, config.num_parameters)
    bytes_of_trained = _BYTES_OF_TRAINED[settings.optimizer]
    bytes_of_trained += 0 if settings.ema_decay is None else 4
    held = weights.num_bytes + bytes_of_trained * weights.num_trained
    return held + saved_bytes(
        config,
        num_tokens,
        bytes_of_number=bytes_of_number,
        checkpoint_activations=settings.checkpoint_activations,
    )


def cache_bytes(config: ModelConfig, num_tokens: int, *, dtype: torch.dtype) -> int:
    """What the keys and values of that many tokens take."""
    bytes_of_head = config.head_dim * dtype.itemsize
    if dtype == torch.int8:
        bytes_of_head += _BYTES_OF_SCALE
    return 2 * config.num_layers * config.num_kv_heads * bytes_of_head * num_tokens


def require_training_memory(
    config: ModelConfig,
    settings: TrainSettings,
    device: torch.device | str,
    *,
    num_tokens: int | None = None,
    weights: WeightCount | None = None,
) -> int:
    """Refuses a run that cannot fit.

    Args:
        config: of the model.
        settings: of the run.
        device: that trains.
        num_tokens: of its largest micro-batch; of micro_batch_rows rows where None.
        weights: of the model; all trained, in fp32, where None.

    Returns:
        What it takes of the device at least, in bytes.

    Raises:
        ValueError: it does not.
    """
    row_length = settings.row_length or config.context_length
    rows = min(settings.micro_batch_rows or settings.rows_per_step, settings.rows_per_step)
    what = f"{rows:,} rows of {row_length:,}" if num_tokens is None else f"{num_tokens:,}"
    num_tokens = rows * row_length if num_tokens is None else num_tokens
    is_half = settings.dtype in ("bfloat16", "float16") or (
        settings.dtype == "auto" and has_fast_bfloat16(torch.device(device))
    )
    num_trained = config.num_parameters if weights is None else weights.num_trained
    needed = training_bytes(
        config, settings, num_tokens, bytes_of_number=2 if is_half else 4, weights=weights
    )
    require_memory(
        needed,
        f"training {num_trained:,} parameters on {what} tokens at a time",
        device=device,
        advice="lower context_length, row_length, rows_per_step or micro_batch_rows, set "
        "checkpoint_activations, or take a smaller model",
    )
    require_memory(
        step_bytes(settings.rows_per_step * row_length),
        f"a step of {settings.rows_per_step:,} rows of {row_length:,} tokens",
        advice="lower rows_per_step or row_length",
    )
    return needed


def require_table_memory(config: ModelConfig) -> None:
    """Refuses a model whose positions cannot be computed, which is done on the CPU.

    Raises:
        ValueError: they do not fit.
    """
    require_memory(
        table_bytes(config),
        f"positions of a context_length of {config.context_length:,}",
        advice="lower it",
    )


def require_cache_memory(
    config: ModelConfig,
    num_blocks: int,
    block_size: int,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
) -> None:
    """Refuses a cache that cannot fit.

    Raises:
        ValueError: it does not.
    """
    num_tokens = num_blocks * block_size
    require_memory(
        cache_bytes(config, num_tokens, dtype=dtype),
        f"a cache for {num_tokens:,} tokens at a time",
        device=device,
        advice="lower batch_size, max_tokens or cache_bytes",
    )


def require_memory(
    needed: int, what: str, *, advice: str, device: torch.device | str = "cpu"
) -> None:
    """Refuses `needed` bytes where this program cannot have as many.

    Args:
        needed: bytes, in all.
        what: begins the message and says what takes them.
        advice: how it takes less.
        device: whose memory it is.

    Raises:
        ValueError: there are fewer.
    """
    if needed <= _NOT_WORTH_ASKING:
        return
    available = available_bytes(device)
    if available is not None and needed > available:
        raise ValueError(
            f"{what} takes at least {needed / _GIB:,.1f} GiB of memory; expected at most the "
            f"{available / _GIB:,.1f} GiB that are available; {advice}"
        )
