"""What the compiled paged_attention promises beyond the reference's results."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.kernels.paged_batch import make_batch, offsets
from tests.tolerance import assert_within_tolerance
from weldlm_kernels import paged_attention, use_backend
from weldlm_kernels.backend import Backend

BIAS = torch.randn(8, 4, generator=torch.Generator().manual_seed(3))
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "window": {"window": 100},
    "all": {
        "window": 300,
        "softcap": 5.0,
        "relative_bias": BIAS,
        "relative_bias_max_distance": 20,
        "alibi_slopes": torch.tensor([0.5, 0.25, 0.125, 0.0625]),
    },
    "fixed-splits": {"split_length": 128},
}


@pytest.fixture(params=[1, 2], ids=["one-thread", "two-threads"])
def num_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def attend(tensors: dict[str, Any], q_max_length: int, backend: Backend, **options: Any) -> Tensor:
    with use_backend(backend):
        return paged_attention(**tensors, q_max_length=q_max_length, is_causal=True, **options)


def in_fp64(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: x.double() if x.dtype == torch.float32 else x for name, x in tensors.items()}


def assert_equals_reference(tensors: dict[str, Any], q_max_length: int) -> None:
    actual = attend(tensors, q_max_length, "cpu")

    same_dtype = attend(tensors, q_max_length, "reference")
    exact = attend(in_fp64(tensors), q_max_length, "reference")
    assert_within_tolerance("out", actual, same_dtype, exact)


@pytest.mark.usefixtures("num_threads", "instruction_set")
@pytest.mark.parametrize("num_kv_heads", [1, 2, 8])
@pytest.mark.parametrize("head_dim", [5, 64, 129])
def test_large_batches_equal_reference(head_dim: int, num_kv_heads: int) -> None:
    shape = {"num_heads": 8, "num_kv_heads": num_kv_heads, "head_dim": head_dim}
    batch = make_batch((1, 37, 1, 2), (700, 290, 1, 64), torch.float32, **shape)

    assert_equals_reference(batch.tensors(), 37)


@pytest.mark.usefixtures("num_threads", "instruction_set")
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_a_row_has_the_same_bits_in_any_batch(options: dict[str, Any]) -> None:
    tensors = make_batch((1, 40, 1), (300, 640, 550), torch.float32).tensors()
    # the last of the 40 tokens again, decoded by itself
    last = {"q": tensors["q"][40:41], "block_table": tensors["block_table"][1:2]}
    last |= {"lengths": tensors["lengths"][1:2], "q_offsets": offsets((1,))}

    together = attend(tensors, 40, "cpu", **options)
    alone = attend(tensors | last, 1, "cpu", **options)

    assert torch.equal(alone[0], together[40])


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_threads_do_not_change_a_bit(options: dict[str, Any]) -> None:
    tensors = make_batch((1, 40, 1), (900, 640, 5), torch.float32).tensors()
    before, found = torch.get_num_threads(), []

    for count in (1, 2):
        torch.set_num_threads(count)
        found.append(attend(tensors, 40, "cpu", **options))
    torch.set_num_threads(before)

    assert torch.equal(*found)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("scale_dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("cache_dtype", [torch.int8, torch.float8_e4m3fn], ids=str)
def test_quantized_caches_equal_reference(
    cache_dtype: torch.dtype, scale_dtype: torch.dtype
) -> None:
    tensors = make_batch((3, 1, 1), (9, 170, 64), torch.float32, head_dim=40).tensors()
    for name in ("key", "value"):
        cache = tensors[f"{name}_cache"].nan_to_num(0.0)
        scale = cache.abs().amax(-1) / 127
        tensors[f"{name}_cache"] = (cache / scale.clamp(min=1e-9).unsqueeze(-1)).to(cache_dtype)
        # subnormal numbers of fp16 too; NaN where no token lies
        scale = torch.where(scale == 0, torch.nan, scale * 2.0 ** -(torch.arange(2) * 10))
        tensors[f"{name}_scale"] = scale.to(scale_dtype)

    actual = attend(tensors, 3, "cpu")

    exact = tensors | {"q": tensors["q"].double()}
    exact |= {name: tensors[name].to(scale_dtype) for name in ("key_scale", "value_scale")}
    assert_within_tolerance(
        "out", actual, attend(tensors, 3, "reference"), attend(exact, 3, "reference"), floor=3.0
    )


def test_inputs_may_be_slices() -> None:
    tensors = make_batch((1, 3, 1), (5, 70, 16), torch.float32).tensors()
    caches = torch.stack([tensors["key_cache"], tensors["value_cache"]], dim=2)
    projection = torch.randn(5, 6, 32)
    slices = {"key_cache": caches[:, :, 0], "value_cache": caches[:, :, 1]}
    slices |= {"q": projection[:, 1:5, 3:19], "lengths": torch.tensor([5, 0, 70, 0, 16]).int()[::2]}

    assert_equals_reference(tensors | slices, 3)


def test_scattered_elements_of_heads_are_gathered() -> None:
    tensors = make_batch((1, 3, 1), (5, 70, 16), torch.float32).tensors()
    scattered = {
        name: tensors[name].transpose(2, 3).contiguous().transpose(2, 3)
        for name in ("key_cache", "value_cache")
    }

    assert_equals_reference(tensors | scattered, 3)


def test_infinite_and_undefined_queries_stay_their_own() -> None:
    tensors = make_batch((1, 1, 1), (5, 70, 16), torch.float32).tensors()
    clean = attend(tensors, 1, "cpu")
    tensors["q"][1] = torch.nan

    out = attend(tensors, 1, "cpu")

    assert out[1].isnan().all()
    assert torch.equal(out[[0, 2]], clean[[0, 2]])


WRONG: dict[str, tuple[dict[str, Tensor], str]] = {
    "offsets": ({"q_offsets": torch.tensor([0, 2, 1, 3]).int()}, r"q_offsets \[0, 2, 1, 3\]"),
    "room": ({"lengths": torch.tensor([5, 999, 16]).int()}, "length 999, but its 6 blocks hold 96"),
    "below-0": ({"lengths": torch.tensor([5, -1, 16]).int()}, "length -1"),
    "block": ({"block_table": torch.full((3, 6), 99).int()}, "block outside the cache"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_does_not_exist_is_not_read(change: dict[str, Tensor], message: str) -> None:
    tensors = make_batch((1, 1, 1), (5, 70, 16), torch.float32).tensors()

    with pytest.raises(ValueError, match=message):
        attend(tensors | change, 1, "cpu")
