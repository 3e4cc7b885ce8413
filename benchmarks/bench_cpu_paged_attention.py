"""paged_attention on a CPU, against torch's attention over keys that lie end to end.

python -m pytest benchmarks/bench_cpu_paged_attention.py --benchmark-enable
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.compare import Comparison
from weldlm_kernels import paged_attention

__all__ = ["comparisons"]

BLOCK_SIZE = 16
READ_BYTES = 2**28  # of the sum that measures the read bandwidth, far beyond the caches


@dataclass(frozen=True, slots=True)
class Size:
    num_sequences: int
    length: int
    num_heads: int = 32
    num_kv_heads: int = 4
    head_dim: int = 64
    q_length: int = 1
    is_int8: bool = False


SIZES = {
    "decode, GQA 32/4, 16 x 1,024": Size(16, 1024),
    "decode, GQA 32/4, 16 x 1,024, int8": Size(16, 1024, is_int8=True),
    "decode, GQA 32/8 of 128, 16 x 1,024": Size(16, 1024, 32, 8, 128),
    "decode, 12 heads, 16 x 1,024": Size(16, 1024, 12, 12),
    "decode, GQA 32/4, 1 x 16,384": Size(1, 16384),
    "prompt, 12 heads, 1 x 1,024": Size(1, 1024, 12, 12, q_length=1024),
}
Side = Callable[[], Tensor]


def checked_sides(size: Size) -> tuple[Side, Side, int]:
    """Ours, torch's on keys and values end to end, and the bytes of keys and values."""
    torch.manual_seed(0)
    num_blocks = size.num_sequences * size.length // BLOCK_SIZE
    shape = (num_blocks, BLOCK_SIZE, size.num_kv_heads, size.head_dim)
    table = torch.randperm(num_blocks).int().view(size.num_sequences, -1)
    caches = [torch.randn(shape) for _ in range(2)]
    scales: list[Tensor | None] = [None, None]
    if size.is_int8:
        scales = [cache.abs().amax(-1) / 127 for cache in caches]
        caches = [
            (x / s.unsqueeze(-1)).round().to(torch.int8)
            for x, s in zip(caches, scales, strict=True)
            if s is not None
        ]
    dense = [in_order(x, s, table) for x, s in zip(caches, scales, strict=True)]
    q = torch.randn(size.num_sequences * size.q_length, size.num_heads, size.head_dim)
    ours = partial(
        paged_attention,
        q,
        *caches,
        table,
        torch.full((size.num_sequences,), size.length, dtype=torch.int32),
        torch.arange(0, len(q) + 1, size.q_length, dtype=torch.int32),
        q_max_length=size.q_length,
        is_causal=True,
        key_scale=scales[0],
        value_scale=scales[1],
    )
    theirs = partial(
        scaled_dot_product_attention,
        q.unflatten(0, (size.num_sequences, -1)).transpose(1, 2),
        *dense,
        is_causal=size.q_length > 1,
        enable_gqa=size.num_heads != size.num_kv_heads,
    )
    torch.testing.assert_close(ours(), theirs().transpose(1, 2).flatten(0, 1), atol=1e-4, rtol=1e-4)
    return ours, theirs, 2 * caches[0].nbytes


def in_order(cache: Tensor, scale: Tensor | None, table: Tensor) -> Tensor:
    """[blocks, block_size, Hkv, D] -> [B, Hkv, S, D] in fp32."""
    rows = cache.float() if scale is None else cache.float() * scale.unsqueeze(-1)
    ordered: Tensor = rows[table.long()].flatten(1, 2).transpose(1, 2).contiguous()
    return ordered


def comparisons() -> Iterator[Comparison]:
    memory = torch.ones(READ_BYTES // 4)
    for name, size in SIZES.items():
        ours, theirs, num_bytes = checked_sides(size)
        work = f"paged_attention {name}"
        yield Comparison(work, "torch SDPA, fp32, no pages", ours, theirs)
        if size.q_length == 1:
            part = memory[: num_bytes // 4]
            yield Comparison(
                f"{work}: share of the read bandwidth",
                f"sum of {num_bytes / 2**20:.0f} MiB",
                ours,
                partial(torch.sum, part),
            )


@pytest.mark.parametrize("side", [0, 1], ids=["weldlm", "torch"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
def test_forward(benchmark: BenchmarkFixture, size: Size, side: int) -> None:
    sides = checked_sides(size)
    benchmark.group = str(size)
    benchmark.extra_info["threads"] = torch.get_num_threads()

    benchmark(sides[:2][side])
