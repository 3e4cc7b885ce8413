from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.kernels.interpreter import interpret
from tests.kernels.paged_batch import PagedBatch, make_batch, offsets
from tests.tolerance import assert_within_tolerance
from weldlm_kernels import attention, paged_attention, use_backend
from weldlm_kernels.backend import Backend
from weldlm_kernels.paged_attention.gpu_sizes import choose_num_splits


@dataclass(frozen=True, slots=True)
class Case:
    q_lengths: tuple[int, ...]
    lengths: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    shape: dict[str, Any] = field(default_factory=dict)
    is_causal: bool = True

    def batch(self, dtype: torch.dtype) -> PagedBatch:
        return make_batch(self.q_lengths, self.lengths, dtype, **self.shape)


def attend(case: Case, tensors: dict[str, Any], backend: Backend) -> Tensor:
    q_max_length = max(case.q_lengths, default=0)
    with interpret(), use_backend(backend):
        return paged_attention(
            **tensors, q_max_length=q_max_length, is_causal=case.is_causal, **case.options
        )


def in_fp64(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.double() if x.dtype.is_floating_point else x for name, x in tensors.items()}


def assert_equals_reference(case: Case, dtype: torch.dtype, backend: Backend = "gpu") -> None:
    tensors = case.batch(dtype).tensors()

    actual = attend(case, tensors, backend)

    same_dtype = attend(case, tensors, "reference")
    exact = attend(case, in_fp64(tensors), "reference")
    assert_within_tolerance("out", actual, same_dtype, exact)


BIAS = torch.randn(8, 4, generator=torch.Generator().manual_seed(3))
RELATIVE = {"relative_bias": BIAS, "relative_bias_max_distance": 20}
SLOPES = {"alibi_slopes": torch.tensor([0.5, 0.25, 0.125, 0.0625])}
DECODING = ((1, 1, 1), (5, 70, 16))
MIXED = ((3, 1, 18, 1), (9, 70, 40, 1))
CASES = {
    "decoding": Case(*DECODING),
    "mixed": Case(*MIXED),
    "mixed-in-many-blocks": Case((1, 50, 2, 1), (33, 50, 4, 65)),
    "whole-prompts": Case((17, 5), (17, 5)),
    "empty": Case((0, 1, 0, 2, 0), (7, 9, 0, 0, 0), shape={"num_behind": 3}),
    "no-sequence": Case((), (), shape={"num_behind": 20}),
    "nothing": Case((), ()),
    "fewer-keys-than-queries": Case((9, 2), (4, 1)),
    "cross": Case((1, 3, 1), (40, 7, 0), is_causal=False),
    "cross-window": Case((5, 1), (40, 7), {"window": 4}, is_causal=False),
    "window": Case((3, 1, 40), (9, 150, 70), {"window": 20}),
    "window-of-one": Case((2, 1), (9, 40), {"window": 1}),
    "softcap": Case(*MIXED, {"softcap": 2.0}),
    "alibi": Case(*MIXED, SLOPES),
    "relative": Case(*MIXED, RELATIVE),
    "relative-both-ways": Case(
        (5, 1), (40, 7), RELATIVE | {"relative_bias_is_bidirectional": True}, is_causal=False
    ),
    "relative-exact-beyond-the-largest": Case(
        (3, 1), (40, 7), {"relative_bias": BIAS.repeat(3, 1), "relative_bias_max_distance": 13}
    ),
    "all-options": Case(*MIXED, RELATIVE | SLOPES | {"window": 30, "softcap": 3.0, "scale": -0.7}),
    "fixed-splits": Case((1, 3), (300, 130), {"split_length": 128}),
    "fixed-splits-window": Case((1, 3), (300, 130), {"split_length": 128, "window": 100}),
    "fixed-splits-of-nothing": Case((0, 1), (0, 300), {"split_length": 128}, {"num_behind": 2}),
    "more-splits-than-one-step-merges": Case(
        (1,), (1300,), {"split_length": 128}, {"num_heads": 2, "block_size": 128}
    ),
    "splits": Case((1,), (600,), shape={"num_kv_heads": 1}),
    "splits-window": Case((1,), (900,), {"window": 550}, {"num_kv_heads": 1}),
    "blocks-of-24": Case(*MIXED, shape={"block_size": 24}),
    "blocks-of-256": Case(*DECODING, shape={"block_size": 256}),
    "one-group": Case(*DECODING, shape={"num_kv_heads": 1, "num_heads": 7}),
    "one-head-each": Case(*DECODING, shape={"num_kv_heads": 3, "num_heads": 3}),
    "more-heads-than-a-tile": Case(*DECODING, shape={"num_kv_heads": 1, "num_heads": 70}),
    "head-80": Case(*MIXED, shape={"head_dim": 80}),
    "head-8": Case(*DECODING, shape={"head_dim": 8}),
}
SAMPLE = ["mixed", "all-options", "fixed-splits", "head-80"]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_gpu_equals_reference(case: Case) -> None:
    assert_equals_reference(case, torch.bfloat16)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_cpu_equals_reference(case: Case) -> None:
    assert_equals_reference(case, torch.float32, "cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("name", SAMPLE)
def test_gpu_equals_reference_in_other_dtypes(name: str, dtype: torch.dtype) -> None:
    assert_equals_reference(CASES[name], dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("block_size", [16, 32, 128])
@pytest.mark.parametrize("head_dim", [16, 40, 64, 96, 128, 192, 256])
def test_gpu_equals_reference_at_every_size(
    head_dim: int, block_size: int, dtype: torch.dtype
) -> None:
    shape = {"head_dim": head_dim, "block_size": block_size}

    assert_equals_reference(Case((1, 130, 17), (200, 300, 17), shape=shape), dtype)


UNPAGED = {
    "mixed": Case(*MIXED),
    "full": Case(*MIXED, is_causal=False),
    "empty": CASES["empty"],
    "window": CASES["window"],
    "cross-window": CASES["cross-window"],
    "softcap": CASES["softcap"],
    "relative": CASES["relative"],
    "relative-both-ways": CASES["relative-both-ways"],
}


@pytest.mark.parametrize("backend", ["reference", "gpu"])
@pytest.mark.parametrize("case", UNPAGED.values(), ids=UNPAGED.keys())
def test_pages_end_to_end_give_what_attention_gives(case: Case, backend: Backend) -> None:
    batch = case.batch(torch.float32)

    actual = attend(case, batch.tensors(), backend)

    expected, _ = attention(
        batch.q,
        batch.k,
        batch.v,
        q_offsets=batch.q_offsets,
        k_offsets=offsets(case.lengths),
        q_max_length=max(case.q_lengths),
        k_max_length=max(case.lengths),
        is_causal=case.is_causal,
        **case.options,
    )
    torch.testing.assert_close(actual, expected, atol=2e-6, rtol=2e-5)


def test_reference_lowers_scores_by_distance_under_alibi() -> None:
    case = Case((4,), (9,), SLOPES)
    batch = case.batch(torch.float64)

    actual = attend(case, batch.tensors(), "reference")

    distance = torch.arange(9) - torch.arange(5, 9)[:, None]
    mask = (SLOPES["alibi_slopes"][:, None, None] * distance).double()
    mask = mask.masked_fill(distance > 0, -torch.inf)
    q, k, v = (x.transpose(0, 1) for x in (batch.q, batch.k, batch.v))
    sdpa = torch.nn.functional.scaled_dot_product_attention
    torch.testing.assert_close(actual, sdpa(q, k, v, mask, enable_gqa=True).transpose(0, 1))


def quantized(tensors: dict[str, Tensor], dtype: torch.dtype, scale_dtype: torch.dtype) -> Any:
    """The caches in `dtype`, each token's head by its largest magnitude; unused scales are NaN."""
    most = 127 if dtype == torch.int8 else torch.finfo(dtype).max
    parts: dict[str, Tensor] = {}
    for name in ("key", "value"):
        cache = tensors[f"{name}_cache"].float()
        scale = (cache.abs().amax(-1) / most).to(scale_dtype)
        steps = (cache / scale.float().unsqueeze(-1)).clamp(-most, most)
        steps = steps.round() if dtype == torch.int8 else steps
        parts |= {f"{name}_cache": steps.to(dtype), f"{name}_scale": scale}
    return tensors | parts


@pytest.mark.parametrize("scale_dtype", [torch.float32, torch.float16], ids=["fp32", "fp16"])
@pytest.mark.parametrize("cache_dtype", [torch.int8, torch.float8_e4m3fn], ids=["int8", "fp8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_gpu_equals_reference_on_quantized_caches(
    dtype: torch.dtype, cache_dtype: torch.dtype, scale_dtype: torch.dtype
) -> None:
    case = Case((3, 1), (9, 70), {"softcap": 9.0})
    tensors = quantized(case.batch(dtype).tensors(), cache_dtype, scale_dtype)
    exact_tensors = tensors | {"q": tensors["q"].double()}

    actual = attend(case, tensors, "gpu")

    # both multiply what the steps stand for: nothing of the loss to quantization is in the bound
    same_dtype = attend(case, tensors, "reference")
    assert_within_tolerance(
        "out", actual, same_dtype, attend(case, exact_tensors, "reference"), floor=3.0
    )


@pytest.mark.parametrize("cache_dtype", [torch.int8, torch.float8_e4m3fn], ids=["int8", "fp8"])
def test_cpu_equals_reference_on_quantized_caches(cache_dtype: torch.dtype) -> None:
    case = Case((3, 1), (9, 70))
    tensors = quantized(case.batch(torch.float32).tensors(), cache_dtype, torch.float32)

    actual = attend(case, tensors, "cpu")

    torch.testing.assert_close(actual, attend(case, tensors, "reference"))


def test_values_too_small_for_fp16_survive_quantization() -> None:
    case = Case((1,), (40,))
    tensors = case.batch(torch.float16).tensors()
    tensors = quantized(tensors, torch.int8, torch.float32)
    tensors["value_scale"] *= 1e-3

    actual = attend(case, tensors, "gpu")

    exact = attend(case, tensors | {"q": tensors["q"].double()}, "reference")
    torch.testing.assert_close(actual.double(), exact, atol=1e-7, rtol=0.01)


@pytest.mark.parametrize(
    "options",
    [{}, {"window": 100}, {"relative_bias": BIAS / 10, "softcap": 5.0}],
    ids=["plain", "window", "bias"],
)
def test_fixed_splits_give_the_same_bits_in_any_batch(options: dict[str, Any]) -> None:
    together = Case((1, 6, 1), (300, 140, 550), options | {"split_length": 128, "scale": 0.05})
    tensors = rounded(together.batch(torch.bfloat16).tensors())
    alone = replace(together, q_lengths=(1,), lengths=(140,))
    # the last of the 6 tokens again, decoded by itself, in a table that is just wide enough
    last = {"q": tensors["q"][6:7], "block_table": tensors["block_table"][1:2, :9]}
    last |= {"lengths": tensors["lengths"][1:2], "q_offsets": offsets((1,))}

    in_batch = attend(together, tensors, "gpu")
    by_itself = attend(alone, tensors | last, "gpu")

    torch.testing.assert_close(by_itself[0], in_batch[6], atol=0.0, rtol=0.0)


def rounded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Halves, whose products with a row of a tile are exact.

    The interpreter multiplies by numpy, which rounds by the place of a row; tensor cores do not.
    """
    return {
        name: (x * 2).round() / 2 if x.is_floating_point() else x for name, x in tensors.items()
    }


def test_queries_may_be_slices_of_a_projection() -> None:
    case = Case(*DECODING)
    tensors = case.batch(torch.float32).tensors()
    projection = torch.randn(3, 6, 16)

    actual = attend(case, tensors | {"q": projection[:, 1:5]}, "gpu")

    expected = attend(case, tensors | {"q": projection[:, 1:5].clone()}, "reference")
    torch.testing.assert_close(actual, expected)


def test_caches_may_be_slices_of_one_allocation() -> None:
    case = Case(*DECODING)
    tensors = case.batch(torch.float32).tensors()
    caches = torch.stack([tensors["key_cache"], tensors["value_cache"]], dim=2)
    slices = {"key_cache": caches[:, :, 0], "value_cache": caches[:, :, 1]}

    actual = attend(case, tensors | slices, "gpu")

    torch.testing.assert_close(actual, attend(case, tensors, "reference"))


def test_splits_follow_the_size_of_the_batch() -> None:
    device = torch.device("cpu")  # stands for 4 multiprocessors

    found = [choose_num_splits(device, programs, 10_000) for programs in (1, 2, 8, 1000)]

    assert found == [8, 4, 1, 1]
    assert choose_num_splits(device, 1, 600) == 3


def test_tokens_that_require_a_gradient_are_refused() -> None:
    case = Case(*DECODING)
    tensors = case.batch(torch.float32).tensors()
    tensors["q"].requires_grad_()

    with pytest.raises(RuntimeError, match=r"paged_attention has none.*torch\.no_grad\(\)"):
        attend(case, tensors, "reference")


def test_operation_obeys_the_rules_of_torch_library() -> None:
    case = Case((1,), (5,), shape={"num_heads": 2})
    arguments: list[Any] = list(case.batch(torch.float32).tensors().values())
    arguments += [1, True, 4, 0.3, 2.0, None]
    arguments += [BIAS[:, :2], 20, False, None, None, None, "gpu"]

    with interpret():
        torch.library.opcheck(torch.ops.weldlm.paged_attention.default, tuple(arguments))


def test_compiled_equals_eager() -> None:
    case = Case(*MIXED, SLOPES)
    batch = case.batch(torch.float32)

    def call(q: Tensor) -> Tensor:
        return attend_plainly(case, batch.tensors() | {"q": q * 2})

    compiled: Callable[[Tensor], Tensor] = torch.compile(call, backend="aot_eager", fullgraph=True)

    torch.testing.assert_close(compiled(batch.q), call(batch.q))


def attend_plainly(case: Case, tensors: dict[str, Any]) -> Tensor:
    return paged_attention(**tensors, q_max_length=18, is_causal=True, **case.options)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "heads": ({"q": torch.zeros(3, 5, 16)}, r"q \(3, 5, 16\).*multiple of num_kv_heads"),
    "head-dim": ({"q": torch.zeros(3, 4, 8)}, r"q \(3, 4, 8\).*with one head_dim"),
    "packed": ({"q": torch.zeros(1, 3, 4, 16)}, r"expected \[T, num_heads, head_dim\]"),
    "table": ({"block_table": torch.zeros(2, 9).int()}, r"block_table \(2, 9\), lengths \(3,\)"),
    "offsets": ({"q_offsets": torch.zeros(3).int()}, r"q_offsets \(3,\); expected"),
    "window": ({"window": 0}, "window is 0; expected a value above 0"),
    "split": ({"split_length": 100}, "split_length is 100; expected a multiple of 128"),
    "slopes": ({"alibi_slopes": torch.zeros(2)}, r"alibi_slopes \(2,\); expected"),
    "bias": ({"relative_bias": torch.zeros(8, 2)}, r"relative_bias \(8, 2\).*\[num_buckets"),
    "scales": ({"key_scale": torch.zeros(9)}, "key_scale is given; expected scales for quantized"),
    "length": ({"lengths": torch.tensor([5, 70, 99]).int()}, "length 99, but its 6 blocks hold 96"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG.keys())
def test_arguments_that_do_not_fit_are_named(change: dict[str, Any], message: str) -> None:
    tensors: dict[str, Any] = make_batch((1, 1, 1), (5, 70, 16), torch.float32).tensors()

    with pytest.raises(ValueError, match=message):
        paged_attention(**(tensors | {"q_max_length": 1, "is_causal": True} | change))


def test_dtypes_that_do_not_fit_are_named() -> None:
    tensors: dict[str, Any] = make_batch((1,), (5,), torch.float32).tensors()
    settings: dict[str, Any] = {"q_max_length": 1, "is_causal": True}

    with pytest.raises(TypeError, match=r"key_cache is torch.float32.*expected torch.float16"):
        paged_attention(**tensors | {"q": tensors["q"].half()}, **settings)
    with pytest.raises(TypeError, match=r"lengths is torch.int64; expected int32"):
        paged_attention(**tensors | {"lengths": tensors["lengths"].long()}, **settings)


def test_caches_that_the_kernels_would_have_to_copy_are_refused() -> None:
    case = Case(*DECODING)
    tensors = case.batch(torch.float32).tensors()
    transposed = tensors["value_cache"].transpose(1, 2).contiguous().transpose(1, 2)

    with pytest.raises(ValueError, match="allocate both alike, with head_dim innermost"):
        attend(case, tensors | {"value_cache": transposed}, "gpu")
