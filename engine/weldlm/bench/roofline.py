"""The least time that generation can take where memory is the bound.

Every decoding step reads the weights once, for all sequences under way, and for each sequence the
keys and values of the tokens before. Reading prompts is bound by arithmetic and not counted, so
that the share of a mixed workload is a lower bound. Weights that fit into a cache of the processor
can be read faster than from memory: the share of a small model may exceed 1.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from weldlm.bench.workload import Workload
from weldlm.config import ModelConfig
from weldlm.layers import PackedEmbedding, PackedLinear
from weldlm.memory import cache_bytes

__all__ = ["bytes_of_decoding", "read_bandwidth", "weight_bytes"]

_BUFFER_BYTES = {"cpu": 512 << 20, "cuda": 4 << 30}  # larger than any cache
_REPETITIONS = 5


def read_bandwidth(device: torch.device | str, *, num_bytes: int | None = None) -> float:
    """Bytes a second that this process reads from memory: the best of several sums and maxima."""
    device = torch.device(device)
    num_bytes = _BUFFER_BYTES[device.type] if num_bytes is None else num_bytes
    buffer = torch.ones(num_bytes // 4, device=device)
    seconds = [
        _seconds(reduce, buffer) for _ in range(_REPETITIONS) for reduce in (torch.sum, torch.amax)
    ]
    return buffer.nbytes / min(seconds)


def weight_bytes(model: nn.Module) -> int:
    """What a step reads of the weights: all but tables of which it takes single rows."""
    scorer = getattr(model, "scorer", None)
    tables = {
        id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding) and m is not scorer
    }
    plain = sum(weight.nbytes for weight in model.parameters() if id(weight) not in tables)
    return plain + sum(
        layer.num_bytes
        for layer in model.modules()
        if isinstance(layer, PackedLinear)
        or (isinstance(layer, PackedEmbedding) and layer is scorer)
    )


def bytes_of_decoding(
    config: ModelConfig,
    workload: Workload,
    *,
    batch_size: int,
    weight_bytes: int,
    cache_dtype: torch.dtype,
) -> int:
    """What generating the rows reads at least, `batch_size` at a time."""
    num_steps = max(max(workload.max_tokens), -(-workload.num_new_tokens // batch_size))
    of_layer = cache_bytes(config, 1, dtype=cache_dtype) // config.num_layers
    num_read = sum(
        _num_read(len(prompt), count, config.window_of(layer))
        for layer in range(config.num_layers)
        for prompt, count in zip(workload.prompts, workload.max_tokens, strict=True)
    )
    return num_steps * weight_bytes + num_read * of_layer


def _num_read(num_prompt: int, num_new: int, window: int | None) -> int:
    """Tokens whose keys and values a layer reads for a sequence's new tokens, one by one."""
    lengths = range(num_prompt, num_prompt + num_new)
    if window is None:
        return sum(lengths)
    return sum(min(length, window) for length in lengths)


def _seconds(reduce: Callable[[Tensor], Tensor], buffer: Tensor) -> float:
    begin = time.perf_counter()
    reduce(buffer).item()
    return time.perf_counter() - begin
