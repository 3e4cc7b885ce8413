"""paged_attention on a GPU: one new token a sequence against a long cache."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.gpu.case import Check, Cost, Goal, Pass, Timing, Work, offsets_of
from weldlm_kernels import paged_attention

__all__ = ["checks", "timings"]

BYTES = 2  # of a bfloat16
BLOCK_SIZE = 32


@dataclass(frozen=True, slots=True)
class Size:
    q_lengths: tuple[int, ...]
    lengths: tuple[int, ...]
    num_heads: int = 32
    num_kv_heads: int = 8
    head_dim: int = 128
    split_length: int | None = None


CHECKED = {
    "prompts and new tokens": Size((1, 40, 1, 1, 7), (1, 40, 300, 33, 120), 8, 2, 64),
    "new tokens": Size((1,) * 6, (1_000, 1, 33, 700, 0, 64), 8, 2, 128),
    "new tokens, fixed splits": Size((1,) * 3, (1_000, 1, 300), 8, 2, 128, 256),
    "one head of keys": Size((1, 3), (257, 90), 12, 1, 80),
}
TIMED = {
    "64 x 4096, grouped heads": (Size((1,) * 64, (4_096,) * 64), Goal("share of copy", 0.75, 0.92)),
    "1 x 8192, grouped heads": (Size((1,), (8_192,)), Goal("share of copy", 0.60, 0.85)),
}


def checks() -> Iterator[Check]:
    for name, size in CHECKED.items():
        yield Check(f"paged_attention {name}", partial(_make, size))


def timings() -> Iterator[Timing]:
    for name, (size, goal) in TIMED.items():
        pairs = sum(size.lengths)
        flops = 4 * pairs * size.num_heads * size.head_dim
        cost = Cost(flops, 2 * pairs * size.num_kv_heads * size.head_dim * BYTES)
        make = partial(_make_timed, size)
        yield Timing(f"paged_attention {name}", make, (Pass("forward", cost, goal),))


def _make_timed(size: Size, dtype: torch.dtype, device: torch.device, is_tiny: bool) -> Work:
    if is_tiny:
        size = Size((1, 1), (40, 40), 4, 2, 32)
    return _make(size, dtype, device)


def _make(size: Size, dtype: torch.dtype, device: torch.device) -> Work:
    generator = torch.Generator(device).manual_seed(0)
    num_blocks = [-(-length // BLOCK_SIZE) for length in size.lengths]
    order = torch.randperm(sum(num_blocks), generator=generator, device=device).int()
    table = torch.zeros(len(num_blocks), max(num_blocks), dtype=torch.int32, device=device)
    for row, blocks in zip(table, order.split(num_blocks), strict=True):
        row[: len(blocks)] = blocks

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device).to(dtype)

    pages = (sum(num_blocks), BLOCK_SIZE, size.num_kv_heads, size.head_dim)
    settings = {
        "block_table": table,
        "lengths": torch.tensor(size.lengths, device=device).int(),
        "q_offsets": offsets_of(size.q_lengths, device),
        "q_max_length": max(size.q_lengths),
        "is_causal": True,
        "split_length": size.split_length,
    }
    inputs: dict[str, Tensor | None] = {
        "q": random(sum(size.q_lengths), size.num_heads, size.head_dim),
        "key_cache": random(*pages),
        "value_cache": random(*pages),
    }
    is_dense = len({*size.lengths}) == 1 and {*size.q_lengths} == {1}
    peers: dict[str, Callable[..., Any]] = {}
    if is_dense:
        peers["SDPA, keys gathered before"] = _gathered(size, inputs, table)

    def ours(**tensors: Tensor) -> Tensor:
        # without a gradient, which it refuses
        return paged_attention(**{name: x.detach() for name, x in tensors.items()}, **settings)

    return Work(inputs, ours, peers)


def _gathered(size: Size, inputs: dict[str, Tensor | None], table: Tensor) -> Callable[..., Tensor]:
    """torch's attention over keys and values that were laid out before the clock starts."""
    rows = []
    for name in ("key_cache", "value_cache"):
        cache = inputs[name]
        assert cache is not None
        dense = cache[table.long()].flatten(1, 2)[:, : size.lengths[0]]
        rows.append(dense.transpose(1, 2).contiguous())

    def attend(q: Tensor, key_cache: Tensor, value_cache: Tensor) -> Tensor:
        assert key_cache.shape == value_cache.shape
        return scaled_dot_product_attention(q[:, :, None], *rows, enable_gqa=True).squeeze(2)

    return attend
