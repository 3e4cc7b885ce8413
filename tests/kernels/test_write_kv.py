from typing import Any

import pytest
import torch
from torch import Tensor

from tests.kernels.interpreter import interpret
from tests.tolerance import assert_within_tolerance
from weldlm_kernels import paged_attention, rotary, rotary_write_kv, use_backend, write_kv
from weldlm_kernels.backend import Backend

CONVENTIONS = pytest.mark.parametrize("is_interleaved", [True, False], ids=["neighbors", "halves"])
QUANTIZED = pytest.mark.parametrize(
    ("cache_dtype", "scale_dtype"),
    [
        (torch.int8, torch.float32),
        (torch.int8, torch.float16),
        (torch.float8_e4m3fn, torch.float32),
        (torch.float8_e4m3fn, torch.float16),
    ],
    ids=str,
)
# (tokens, num_heads, num_kv_heads, head_dim, rotated): one token, more of each than a tile holds,
# sizes that are no power of two, partial rotation, nothing rotated, no token
SIZES = [(1, 4, 2, 16, 16), (37, 9, 9, 24, 24), (5, 6, 1, 80, 32), (3, 2, 2, 6, 0), (0, 2, 1, 8, 8)]
BLOCK_SIZE, NUM_BLOCKS, CONTEXT_LENGTH = 16, 5, 50


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def make_tokens(size: tuple[int, ...], dtype: torch.dtype) -> dict[str, Any]:
    tokens, num_heads, num_kv_heads, head_dim, _ = size
    k, v = random(tokens, num_kv_heads, head_dim + 1).to(dtype).split((head_dim, 1), dim=2)
    return {"q": random(tokens, num_heads, head_dim).to(dtype), "k": k, "v": -3 * k + v}


def make_caches(
    size: tuple[int, ...], dtype: torch.dtype, scale_dtype: torch.dtype | None = None
) -> dict[str, Any]:
    """Caches in which everything is 7."""
    shape = (NUM_BLOCKS, BLOCK_SIZE, size[2])
    caches = {name: torch.full((*shape, size[3]), 7.0) for name in ("key_cache", "value_cache")}
    caches = {name: cache.to(dtype) for name, cache in caches.items()}
    if scale_dtype is None:
        return caches
    scales = {name: torch.full(shape, 7.0).to(scale_dtype) for name in ("key_scale", "value_scale")}
    return caches | scales


def make_slots(num_tokens: int) -> Tensor:
    """Different places of many blocks in no order; each fourth token has none."""
    slots = torch.arange(num_tokens) * 31 % (NUM_BLOCKS * BLOCK_SIZE)
    return slots.masked_fill(torch.arange(num_tokens) % 4 == 2, -1)


def make_angles(size: tuple[int, ...]) -> dict[str, Any]:
    angles = random(CONTEXT_LENGTH, size[4] // 2)
    positions = (torch.arange(size[0]) * 7 + 3) % CONTEXT_LENGTH
    return {"cos": angles.cos(), "sin": angles.sin(), "positions": positions}


def written(
    backend: Backend,
    size: tuple[int, ...],
    tokens: dict[str, Any],
    caches: dict[str, Any],
    is_interleaved: bool = False,
) -> dict[str, Tensor]:
    """q rotated and what the caches hold after rotary_write_kv."""
    after: dict[str, Any] = {name: cache.clone() for name, cache in caches.items()}
    settings: dict[str, Any] = {"slots": make_slots(size[0]), "is_interleaved": is_interleaved}
    with interpret(), use_backend(backend):
        q = rotary_write_kv(**tokens, **after, **make_angles(size), **settings)
    return after | {"q": q}


@CONVENTIONS
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_reference_puts_rotated_keys_at_their_slots(
    size: tuple[int, ...], is_interleaved: bool
) -> None:
    tokens = make_tokens(size, torch.float64)
    caches = make_caches(size, torch.float64)

    found = written("reference", size, tokens, caches, is_interleaved)

    expected = {name: caches[name].flatten(0, 1).clone() for name in caches}
    angles, slots = make_angles(size), make_slots(size[0])
    q, k = (rotary(tokens[x], **angles, is_interleaved=is_interleaved) for x in "qk")
    kept = slots.ge(0).nonzero().flatten()
    expected["key_cache"][slots[kept]], expected["value_cache"][slots[kept]] = (
        k[kept],
        tokens["v"][kept],
    )
    torch.testing.assert_close(found["q"], q)
    torch.testing.assert_close(found["key_cache"].flatten(0, 1), expected["key_cache"])
    torch.testing.assert_close(found["value_cache"].flatten(0, 1), expected["value_cache"])


@CONVENTIONS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gpu_equals_reference(
    size: tuple[int, ...], dtype: torch.dtype, is_interleaved: bool
) -> None:
    tokens, caches = make_tokens(size, dtype), make_caches(size, dtype)
    tokens_fp64, caches_fp64 = (
        {n: x.double() for n, x in part.items()} for part in (tokens, caches)
    )

    actual = written("gpu", size, tokens, caches, is_interleaved)

    same_dtype = written("reference", size, tokens, caches, is_interleaved)
    exact = written("reference", size, tokens_fp64, caches_fp64, is_interleaved)
    assert_all_within_tolerance(actual, same_dtype, exact)


def assert_all_within_tolerance(
    actual: dict[str, Tensor], same_dtype: dict[str, Tensor], exact: dict[str, Tensor]
) -> None:
    for name, tensor in actual.items():
        assert_within_tolerance(name, tensor, same_dtype[name], exact[name])


@CONVENTIONS
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_cpu_equals_reference(size: tuple[int, ...], is_interleaved: bool) -> None:
    tokens, caches = make_tokens(size, torch.float32), make_caches(size, torch.float32)
    tokens_fp64, caches_fp64 = (
        {n: x.double() for n, x in part.items()} for part in (tokens, caches)
    )

    actual = written("cpu", size, tokens, caches, is_interleaved)

    same_dtype = written("reference", size, tokens, caches, is_interleaved)
    exact = written("reference", size, tokens_fp64, caches_fp64, is_interleaved)
    assert_all_within_tolerance(actual, same_dtype, exact)


@pytest.mark.parametrize("slot", [-2, NUM_BLOCKS * BLOCK_SIZE])
def test_cpu_writes_nothing_outside_the_cache(slot: int) -> None:
    size = (2, 1, 1, 8, 0)
    tokens, caches = make_tokens(size, torch.float32), make_caches(size, torch.float32)

    with use_backend("cpu"), pytest.raises(ValueError, match="a place below 80"):
        write_kv(tokens["k"], tokens["v"], **caches, slots=torch.tensor([0, slot]))

    assert (caches["key_cache"] == 7).all()


@QUANTIZED
@pytest.mark.parametrize(
    ("backend", "dtype"),
    [("gpu", torch.float32), ("gpu", torch.bfloat16), ("cpu", torch.float32)],
    ids=str,
)
def test_kernels_quantize_to_the_bits_of_the_reference(
    backend: Backend, dtype: torch.dtype, cache_dtype: torch.dtype, scale_dtype: torch.dtype
) -> None:
    size = (37, 2, 3, 24, 0)
    tokens = make_tokens(size, dtype)
    tokens["k"][3] = 0.0
    tokens["k"][4] *= 10.0 ** -torch.arange(24)  # down to what e4m3 has no normal number for
    caches = make_caches(size, cache_dtype, scale_dtype)

    actual = written(backend, size, tokens, caches)

    expected = written("reference", size, tokens, caches)
    assert not actual["key_cache"].view(torch.int8).eq(caches["key_cache"].view(torch.int8)).all()
    torch.testing.assert_close(as_bits(actual), as_bits(expected), atol=0, rtol=0)


def as_bits(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """fp8 as int8, which can be compared."""
    return {name: x.view(torch.int8) if x.itemsize == 1 else x for name, x in tensors.items()}


@QUANTIZED
@pytest.mark.parametrize("backend", ["reference", "cpu", "gpu"])
def test_quantized_tokens_are_within_half_a_step(
    backend: Backend, cache_dtype: torch.dtype, scale_dtype: torch.dtype
) -> None:
    size = (33, 2, 2, 32, 32)
    tokens, caches = make_tokens(size, torch.float32), make_caches(size, cache_dtype, scale_dtype)

    found = written(backend, size, tokens, caches)

    slots = make_slots(size[0])
    kept = slots.ge(0).nonzero().flatten()
    steps = found["value_cache"].flatten(0, 1)[slots[kept]].float()
    scale = found["value_scale"].flatten(0, 1)[slots[kept]].float().unsqueeze(-1)
    v = tokens["v"][kept]
    # half of the distance of neighbors: 1 in int8, 2^-3 of the value in fp8; an fp16 scale may be
    # 2^-11 too small for the largest value
    half = 0.5 * scale if cache_dtype == torch.int8 else v.abs() / 16 + scale * 2**-10
    assert ((steps * scale - v).abs() <= half * 1.001 + v.abs() * 2**-11).all()


@pytest.mark.parametrize("backend", ["reference", "cpu", "gpu"])
def test_models_without_rotary_positions_write_what_they_have(backend: Backend) -> None:
    size = (37, 2, 3, 24, 0)
    tokens, caches = make_tokens(size, torch.float32), make_caches(size, torch.float32)
    slots = make_slots(37)

    with interpret(), use_backend(backend):
        write_kv(tokens["k"], tokens["v"], **caches, slots=slots)

    kept = slots.ge(0).nonzero().flatten()
    rows = {name: cache.flatten(0, 1) for name, cache in caches.items()}
    torch.testing.assert_close(rows["key_cache"][slots[kept]], tokens["k"][kept])
    torch.testing.assert_close(rows["value_cache"][slots[kept]], tokens["v"][kept])
    assert (rows["key_cache"] == 7).all(2).all(1).sum() == NUM_BLOCKS * BLOCK_SIZE - len(kept)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_caches_may_be_slices_of_one_allocation(backend: Backend) -> None:
    size = (9, 4, 2, 16, 16)
    tokens, both = make_tokens(size, torch.float32), torch.zeros(NUM_BLOCKS, BLOCK_SIZE, 4, 16)
    caches: dict[str, Any] = {"key_cache": both[:, :, :2], "value_cache": both[:, :, 2:]}
    settings = make_angles(size) | {"slots": make_slots(9)}

    with interpret(), use_backend(backend):
        rotary_write_kv(**tokens, **caches, **settings)

    expected = written(
        "reference", size, tokens, {n: torch.zeros(x.shape) for n, x in caches.items()}
    )
    torch.testing.assert_close(caches["key_cache"], expected["key_cache"])
    torch.testing.assert_close(caches["value_cache"], expected["value_cache"])


@pytest.mark.parametrize("backend", ["reference", "cpu", "gpu"])
def test_attention_reads_what_was_written(backend: Backend) -> None:
    size = (20, 2, 2, 16, 16)
    tokens, caches = make_tokens(size, torch.float32), make_caches(size, torch.float32)
    angles, table = make_angles(size), torch.tensor([[3, 1]], dtype=torch.int32)
    slots = torch.cat([48 + torch.arange(16), 16 + torch.arange(4)])

    with interpret(), use_backend(backend):
        q = rotary_write_kv(**tokens, **caches, slots=slots, **angles)
        ends = torch.tensor([0, 20], dtype=torch.int32)
        out = paged_attention(
            q,
            **caches,
            block_table=table,
            lengths=ends[1:],
            q_offsets=ends,
            q_max_length=20,
            is_causal=True,
        )

    q, k = (rotary(tokens[x], **angles).transpose(0, 1) for x in "qk")
    sdpa = torch.nn.functional.scaled_dot_product_attention
    expected = sdpa(q, k, tokens["v"].transpose(0, 1), is_causal=True).transpose(0, 1)
    torch.testing.assert_close(out, expected)


def test_operations_obey_the_rules_of_torch_library() -> None:
    size = (3, 1, 1, 8, 8)
    tokens, caches = make_tokens(size, torch.float32), make_caches(size, torch.int8, torch.float16)
    q, k, v = (x.contiguous() for x in tokens.values())
    arguments = [k, v, *caches.values(), make_slots(3)]

    with interpret():
        torch.library.opcheck(torch.ops.weldlm.write_kv.default, (*arguments, "gpu"))
        torch.library.opcheck(
            torch.ops.weldlm.rotary_write_kv.default,
            (q, *arguments, *make_angles(size).values(), True, "gpu"),
        )


def test_compiled_equals_eager() -> None:
    size = (5, 2, 2, 8, 8)
    tokens, angles, slots = make_tokens(size, torch.float32), make_angles(size), make_slots(5)

    def call(q: Tensor, caches: dict[str, Any]) -> Tensor:
        turned: Tensor = rotary_write_kv(**tokens | {"q": q * 2}, **caches, slots=slots, **angles)
        sums: Tensor = caches["key_cache"].sum() + caches["value_cache"].sum()
        return turned + sums

    compiled: Any = torch.compile(call, backend="aot_eager", fullgraph=True)
    before = make_caches(size, torch.float32)
    eager, traced = ({n: x.clone() for n, x in before.items()} for _ in range(2))

    actual, expected = compiled(tokens["q"], traced), call(tokens["q"], eager)

    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(traced, eager)


def test_tokens_that_require_a_gradient_are_refused() -> None:
    size = (3, 2, 2, 8, 8)
    tokens, caches = make_tokens(size, torch.float32), make_caches(size, torch.float32)
    tokens["k"] = tokens["k"].clone().requires_grad_()

    with pytest.raises(RuntimeError, match=r"write_kv has none.*torch\.no_grad\(\)"):
        write_kv(tokens["k"], tokens["v"], **caches, slots=make_slots(3))
    with pytest.raises(RuntimeError, match=r"rotary_write_kv has none"):
        rotary_write_kv(**tokens, **caches, slots=make_slots(3), **make_angles(size))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "slots": ({"slots": torch.zeros(4).long()}, r"slots \(4,\); expected two \[T"),
    "heads": ({"k": torch.zeros(3, 1, 8), "v": torch.zeros(3, 1, 8)}, "the same num_kv_heads"),
    "q": ({"q": torch.zeros(3, 2, 16)}, r"q \(3, 2, 16\).*expected the tokens and the head_dim"),
    "cos": ({"cos": torch.zeros(50, 3)}, r"cos \(50, 3\) and sin \(50, 4\) do not fit"),
    "caches": ({"value_cache": torch.zeros(5, 16, 2, 9)}, r"value_cache \(5, 16, 2, 9\); expected"),
    "scale": ({"key_scale": torch.zeros(5, 16, 2)}, "key_scale is given; expected scales for"),
    "range": (
        {"slots": torch.tensor([0, 80, 1])},
        "slots lie from 0 to 80; expected -1 .* below 80",
    ),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG.keys())
def test_arguments_that_do_not_fit_are_named(change: dict[str, Any], message: str) -> None:
    size = (3, 2, 2, 8, 8)
    arguments: dict[str, Any] = make_tokens(size, torch.float32) | make_angles(size)
    arguments |= make_caches(size, torch.float32) | {"slots": make_slots(3)}

    with pytest.raises(ValueError, match=message):
        rotary_write_kv(**arguments | change)


def test_dtypes_that_do_not_fit_are_named() -> None:
    size = (3, 2, 2, 8, 8)
    tokens, caches = make_tokens(size, torch.float32), make_caches(size, torch.float32)
    k, v, slots = tokens["k"], tokens["v"], make_slots(3)

    with pytest.raises(TypeError, match=r"slots torch.int32; expected one dtype and int64"):
        write_kv(k, v, **caches, slots=slots.int())
    with pytest.raises(TypeError, match=r"key_cache is torch.float32 .*expected torch.float16"):
        write_kv(k.half(), v.half(), **caches, slots=slots)
