"""Attention on a GPU, packed, against torch's kernels on dense rows of the same lengths."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.gpu.case import Check, Cost, Goal, Pass, Timing, Work, offsets_of
from weldlm_kernels import attention
from weldlm_kernels.attention import reference

__all__ = ["checks", "timings"]

BYTES = 2  # of a bfloat16
BACKWARD_FLOPS = 2.5  # times those of forward: five products instead of two
SDPA_BACKENDS = {
    "SDPA flash": SDPBackend.FLASH_ATTENTION,
    "SDPA cuDNN": SDPBackend.CUDNN_ATTENTION,
    "SDPA efficient": SDPBackend.EFFICIENT_ATTENTION,
}


@dataclass(frozen=True, slots=True)
class Size:
    lengths: tuple[int, ...]
    head_dim: int
    is_causal: bool
    num_heads: int = 16
    num_kv_heads: int = 16
    k_lengths: tuple[int, ...] | None = None  # those of the queries
    options: Mapping[str, Any] = field(default_factory=dict)  # of `attention`
    num_buckets: int = 0  # of a relative bias; none without


BIAS = {"relative_bias_max_distance": 128}
BIAS_FULL = BIAS | {"relative_bias_is_bidirectional": True}
RAGGED = (70, 1, 150)
CHECKED = {
    "causal D64": Size(RAGGED, 64, True, 2, 2),
    "full D64": Size(RAGGED, 64, False, 2, 2),
    "causal D128, grouped heads": Size((130, 0, 77), 128, True, 4, 2),
    "full D128, one head of keys": Size((130, 0, 77), 128, False, 4, 1),
    "cross D80": Size((33, 100), 80, False, 2, 2, (257, 5)),
    "causal D256": Size((130, 3), 256, True, 2, 1),
    "causal D40, more keys": Size((70, 31), 40, True, 2, 1, (90, 200)),
    "causal window": Size(RAGGED, 64, True, 2, 1, options={"window": 70}),
    "full window": Size(RAGGED, 64, False, 2, 1, options={"window": 70}),
    "softcap and window": Size(RAGGED, 128, True, 2, 1, options={"window": 100, "softcap": 20.0}),
    "bias, causal": Size(RAGGED, 64, True, 2, 2, options=BIAS, num_buckets=32),
    "bias, full": Size(RAGGED, 64, False, 2, 2, options=BIAS_FULL, num_buckets=32),
    "ALiBi": Size(RAGGED, 64, True, 2, 2, options={"alibi_slopes": (0.5, 0.02)}),
    "dropout": Size(RAGGED, 64, True, 2, 2, options={"dropout_p": 0.2, "dropout_seed": 2**40 + 5}),
}
FULL_D128 = Goal("TFLOP/s", 470, 640)
CAUSAL_D128 = Goal("TFLOP/s", 400, 620)
D64 = Goal("TFLOP/s", 400, 500)
BACKWARD_D128 = Goal("TFLOP/s", 330, 520)
BACKWARD_D64 = Goal("TFLOP/s", 280, 450)
# of 32 sequences, half of which are shorter than 512 tokens
MIXED = tuple(64 * place for place in range(1, 17)) * 2
TIMED = {
    "full 4 x 4096, D128": (Size((4_096,) * 4, 128, False), FULL_D128, BACKWARD_D128),
    "causal 2 x 8192, D128": (Size((8_192,) * 2, 128, True), CAUSAL_D128, BACKWARD_D128),
    "full 4 x 4096, D64": (Size((4_096,) * 4, 64, False, 32, 32), D64, BACKWARD_D64),
    "causal 4 x 4096, D64": (Size((4_096,) * 4, 64, True, 32, 32), None, BACKWARD_D64),
    "causal 32 x 512, D64": (Size((512,) * 32, 64, True, 32, 32), None, None),
    "causal, mixed lengths, D128": (Size(MIXED, 128, True), None, None),
    "T5 bias, full 4 x 4096, D64": (
        Size((4_096,) * 4, 64, False, options=BIAS_FULL, num_buckets=32),
        None,
        None,
    ),
}


def checks() -> Iterator[Check]:
    for name, size in CHECKED.items():
        yield Check(f"attention {name}", partial(_make, size))


def timings() -> Iterator[Timing]:
    for name, (size, forward_goal, backward_goal) in TIMED.items():
        forward, backward = costs(size)
        passes = (
            Pass("forward", forward, forward_goal),
            Pass("backward", backward, backward_goal),
        )
        yield Timing(f"attention {name}", partial(_make_timed, size), passes)


def costs(size: Size) -> tuple[Cost, Cost]:
    """Of forward and backward: a causal row counts the pairs that it sees."""
    pairs = sum(n * (n + 1) / 2 if size.is_causal else n * n for n in size.lengths)
    flops = 4 * pairs * size.num_heads * size.head_dim
    rows = sum(size.lengths) * size.head_dim * BYTES
    tensors = (2 * size.num_heads + 2 * size.num_kv_heads) * rows  # q, out, k, v
    return Cost(flops, tensors), Cost(BACKWARD_FLOPS * flops, 2 * tensors)


def _make_timed(size: Size, dtype: torch.dtype, device: torch.device, is_tiny: bool) -> Work:
    if is_tiny:
        size = replace(size, lengths=(24, 24), num_heads=2, num_kv_heads=2)
    work = _make(size, dtype, device)
    if not size.num_buckets:
        return work
    plain = _make(replace(size, options={}, num_buckets=0), dtype, device)
    return replace(
        work,
        peers={"SDPA, dense bias": partial(_dense_bias, size)},
        companions={"without bias": lambda relative_bias, **rest: plain.ours(**rest)},  # noqa: ARG005
    )


def _make(size: Size, dtype: torch.dtype, device: torch.device) -> Work:
    generator = torch.Generator(device).manual_seed(0)
    k_lengths = size.lengths if size.k_lengths is None else size.k_lengths

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device).to(dtype)

    settings = {
        "q_offsets": offsets_of(size.lengths, device),
        "k_offsets": offsets_of(k_lengths, device),
        "q_max_length": max(size.lengths),
        "k_max_length": max(k_lengths),
        "is_causal": size.is_causal,
        **size.options,
    }
    for name in ("alibi_slopes", "dropout_seed"):
        if name in settings:
            settings[name] = torch.tensor(settings[name], device=device)
    inputs: dict[str, Tensor | None] = {
        "q": random(sum(size.lengths), size.num_heads, size.head_dim)
    }
    for name in ("k", "v"):
        inputs[name] = random(sum(k_lengths), size.num_kv_heads, size.head_dim)
    if size.num_buckets:
        inputs["relative_bias"] = random(size.num_buckets, size.num_heads)
    is_plain_and_dense = len({*size.lengths, *k_lengths}) == 1 and not size.options
    peers = _peers(size, device) if is_plain_and_dense else {}
    return Work(inputs, lambda **tensors: attention(**tensors, **settings)[0], peers)


def _peers(size: Size, device: torch.device) -> dict[str, Callable[..., Any]]:
    def dense(attend: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def on_packed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            rows = [x.unflatten(0, (len(size.lengths), -1)).transpose(1, 2) for x in (q, k, v)]
            return attend(*rows).transpose(1, 2).flatten(0, 1)

        return on_packed

    def sdpa(backend: SDPBackend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(q, k, v, is_causal=size.is_causal)

    if device.type != "cuda":
        return {"SDPA": dense(partial(sdpa, SDPBackend.MATH))}
    peers = {name: dense(partial(sdpa, backend)) for name, backend in SDPA_BACKENDS.items()}
    if size.head_dim == 128:  # it takes long to compile
        peers["FlexAttention"] = dense(partial(_flex, size.is_causal))
    return peers


def _dense_bias(size: Size, q: Tensor, k: Tensor, v: Tensor, relative_bias: Tensor) -> Tensor:
    """As transformers does it: the bias of every pair is laid out and given as a mask."""
    bias = reference.RelativeBias(relative_bias, 128, True)
    place = torch.arange(size.lengths[0], device=q.device)
    mask = bias.scores(place[None, :] - place[:, None])[None].to(q.dtype)
    rows = [x.unflatten(0, (len(size.lengths), -1)).transpose(1, 2) for x in (q, k, v)]
    return scaled_dot_product_attention(*rows, attn_mask=mask).transpose(1, 2).flatten(0, 1)


def _flex(is_causal: bool, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    from torch.nn.attention.flex_attention import create_block_mask

    mask = None
    if is_causal:
        mask = _causal_mask(create_block_mask, q.shape[2])
    return _compiled_flex()(q, k, v, block_mask=mask)  # type: ignore[no-any-return]


@cache
def _causal_mask(create_block_mask: Callable[..., Any], length: int) -> Any:
    return create_block_mask(lambda _batch, _head, q, k: q >= k, None, None, length, length)


@cache
def _compiled_flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)
