from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.kernels.interpreter import interpret
from tests.kernels.oracle import assert_equals_reference, outputs_and_gradients
from weldlm_kernels import attention, use_backend
from weldlm_kernels.backend import Backend

WELDLM = torch.ops.weldlm


@dataclass(frozen=True, slots=True)
class Case:
    q_lengths: tuple[int, ...]
    k_lengths: tuple[int, ...] | None = None  # those of the queries
    is_causal: bool = True
    num_heads: int = 2
    num_kv_heads: int = 1
    head_dim: int = 16
    value_dim: int | None = None  # head_dim
    num_behind: int = 0  # tokens behind the last offset
    window: int | None = None
    scale: float | None = None


# the tiles of the kernels have 16 to 128 rows or keys
CASES = {
    "one-token": Case((1, 20)),
    "a-tile-and-its-neighbors": Case((63, 64, 65)),
    "two-tiles-and-their-neighbors": Case((127, 128, 129), num_heads=1),
    "two-tiles-full": Case((129, 128), is_causal=False, num_heads=1),
    "one-long-many-short": Case((3, 1, 17, 200, 2, 1, 5)),
    "one-long-many-short-full": Case((3, 1, 17, 200, 2, 1, 5), is_causal=False),
    "equal-lengths": Case((33, 33, 33), num_kv_heads=2),
    "empty-sequences": Case((0, 7, 0, 0, 20, 0), num_behind=3),
    "only-tokens-of-no-sequence": Case((0, 0), num_behind=300),
    "no-sequence": Case((), num_behind=2),
    "nothing": Case(()),
    "more-keys": Case((5, 70, 1, 2), (9, 200, 130, 3), num_behind=4),
    "more-keys-full": Case((5, 70, 1, 2), (9, 200, 130, 3), is_causal=False),
    "fewer-keys": Case((9, 140, 3), (4, 70, 3)),
    "fewer-keys-full": Case((9, 140, 3), (4, 70, 3), is_causal=False),
    "no-keys": Case((3, 4, 5), (0, 6, 0)),
    "no-keys-full": Case((3, 4), (0, 6), is_causal=False),
    "no-queries": Case((0, 4), (5, 6), is_causal=False),
    "grouped-heads": Case((40, 30), num_heads=6, num_kv_heads=2),
    "grouped-heads-full": Case((40, 30), num_heads=6, num_kv_heads=2, is_causal=False),
    "multi-query": Case((40, 70), (70, 40), num_heads=3),
    "scale": Case((20, 70), scale=0.7),
    "head-40": Case((70,), head_dim=40),
    "head-64": Case((70,), head_dim=64),
    "head-80": Case((70,), head_dim=80),
    "head-128": Case((70,), head_dim=128),
    "head-8": Case((20,), head_dim=8),
    "wider-values": Case((20, 45), (33, 45), head_dim=24, value_dim=40),
    "narrower-values": Case((20, 45), (33, 45), head_dim=40, value_dim=24),
}
# arguments of the operation between scale and backend
NO_OPTIONS = (None, 128, False, None, None, 0.0, None)
# what differs between dtypes: tiles, and the casts around each product
SAMPLE = ["one-long-many-short", "fewer-keys", "grouped-heads", "head-80", "more-keys-full"]


def packed(case: Case) -> dict[str, Any]:
    """The arguments of attention that are not differentiated."""
    k_lengths = case.q_lengths if case.k_lengths is None else case.k_lengths
    return {
        "q_offsets": offsets(case.q_lengths),
        "k_offsets": offsets(k_lengths),
        "q_max_length": max(case.q_lengths, default=0),
        "k_max_length": max(k_lengths, default=0),
        "is_causal": case.is_causal,
        "window": case.window,
        "scale": case.scale,
    }


def offsets(lengths: tuple[int, ...]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def make_inputs(case: Case, dtype: torch.dtype) -> dict[str, Tensor]:
    """q, k and v, with NaN in the tokens behind the last offset."""
    generator = torch.Generator().manual_seed(1)
    settings = packed(case)
    value_dim = case.head_dim if case.value_dim is None else case.value_dim
    num_rows, num_keys = int(settings["q_offsets"][-1]), int(settings["k_offsets"][-1])

    def random(num_tokens: int, *shape: int) -> Tensor:
        x = torch.randn(num_tokens + case.num_behind, *shape, generator=generator)
        x[num_tokens:] = torch.nan
        return x.to(dtype)

    return {
        "q": random(num_rows, case.num_heads, case.head_dim),
        "k": random(num_keys, case.num_kv_heads, case.head_dim),
        "v": random(num_keys, case.num_kv_heads, value_dim),
    }


def call(case: Case) -> Callable[..., tuple[Tensor, Tensor]]:
    settings = packed(case)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        out, lse = attention(q, k, v, **settings)
        # lse has no gradient; that of the reference would
        return out, lse.detach()

    return attend


def torch_attention(inputs: dict[str, Tensor], start: int, end: int, is_causal: bool) -> Tensor:
    q, k, v = (x[start:end].transpose(0, 1) for x in inputs.values())
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(q, k, v, is_causal=is_causal, scale=0.3, enable_gqa=True).transpose(0, 1)


@pytest.mark.parametrize("is_causal", [True, False], ids=["causal", "full"])
def test_reference_is_torch_attention(is_causal: bool) -> None:
    case = Case((5, 9), is_causal=is_causal, num_heads=4, num_kv_heads=2, scale=0.3)
    inputs = make_inputs(case, torch.float64)

    out, _ = call(case)(**inputs)

    bounds = pairwise(packed(case)["q_offsets"].tolist())
    expected = [torch_attention(inputs, start, end, is_causal) for start, end in bounds]
    torch.testing.assert_close(out, torch.cat(expected))


def test_reference_aligns_the_last_query_with_the_last_key() -> None:
    case = Case((2,), (4,), num_heads=1)
    inputs = make_inputs(case, torch.float64)

    out, lse = call(case)(**inputs)

    scores = inputs["q"][:, 0] @ inputs["k"][:, 0].T / 4
    scores[0, 3] = -torch.inf
    torch.testing.assert_close(lse[0], scores.logsumexp(1))
    torch.testing.assert_close(out[:, 0], scores.softmax(1) @ inputs["v"][:, 0])


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_cpu_equals_reference(case: Case) -> None:
    assert_equals_reference(call(case), make_inputs(case, torch.float32), backend="cpu")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_gpu_equals_reference(case: Case) -> None:
    assert_equals_reference(call(case), make_inputs(case, torch.bfloat16), backend="gpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("name", SAMPLE)
def test_other_dtypes(name: str, backend: Backend, dtype: torch.dtype) -> None:
    assert_equals_reference(call(CASES[name]), make_inputs(CASES[name], dtype), backend=backend)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("head_dim", [16, 40, 64, 80, 96, 128, 192, 256])
def test_gpu_equals_reference_at_every_head_size(head_dim: int, dtype: torch.dtype) -> None:
    case = Case((130, 17), head_dim=head_dim)

    assert_equals_reference(call(case), make_inputs(case, dtype), backend="gpu")


PATHS: list[tuple[Backend, torch.dtype]] = [
    ("cpu", torch.float32),
    ("cpu", torch.bfloat16),
    ("gpu", torch.float32),
    ("gpu", torch.bfloat16),
]


@pytest.mark.parametrize(("backend", "dtype"), PATHS)
def test_query_without_a_key_gives_zero(backend: Backend, dtype: torch.dtype) -> None:
    case = Case((5, 3), (2, 0), num_heads=1)

    found = outputs_and_gradients(call(case), make_inputs(case, dtype), backend=backend)

    is_blind = torch.tensor([True] * 3 + [False] * 2 + [True] * 3)
    torch.testing.assert_close(found["output 1"][0].isneginf(), is_blind)
    torch.testing.assert_close((found["output 0"] == 0).all(2)[:, 0], is_blind)
    assert found["grad q"][is_blind].count_nonzero() == 0


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("is_causal", [True, False], ids=["causal", "full"])
@pytest.mark.parametrize(("backend", "dtype"), PATHS)
def test_sequences_do_not_leak(
    backend: Backend, dtype: torch.dtype, is_causal: bool, name: str
) -> None:
    case = Case((19, 30, 7), is_causal=is_causal)
    inputs = make_inputs(case, dtype)
    changed = inputs | {name: inputs[name].clone()}
    changed[name][25] += 3

    before = outputs_and_gradients(call(case), inputs, backend=backend)
    after = outputs_and_gradients(call(case), changed, backend=backend)

    assert torch.equal(outside(before, 19, 49), outside(after, 19, 49))
    assert not torch.equal(before["output 0"][19:49], after["output 0"][19:49])


def outside(found: dict[str, Tensor], start: int, end: int) -> Tensor:
    """The results of all tokens but those from `start` to `end`, side by side."""
    by_token = found | {"output 1": found["output 1"].T}
    flat = [x.float().flatten(1) for x in by_token.values()]
    return torch.cat([torch.cat([x[:start], x[end:]]) for x in flat], dim=1)


@pytest.mark.parametrize(("backend", "dtype"), PATHS)
def test_slices_of_one_projection_equal_copies(backend: Backend, dtype: torch.dtype) -> None:
    case = Case((21, 6), num_heads=4, num_kv_heads=2, head_dim=24)
    fused = torch.randn(27, 8, 24, generator=torch.Generator().manual_seed(0)).to(dtype)
    views = dict(zip("qkv", fused.split([4, 2, 2], dim=1), strict=True))
    copies = {name: view.contiguous() for name, view in views.items()}

    from_views = outputs_and_gradients(call(case), views, backend=backend)
    from_copies = outputs_and_gradients(call(case), copies, backend=backend)

    torch.testing.assert_close(from_views, from_copies, rtol=0, atol=0)


@pytest.mark.parametrize(("backend", "dtype"), PATHS)
@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
        lambda x: x[:1].expand_as(x),
    ],
    ids=["heads-first", "head-size-first", "one-token-repeated"],
)
def test_any_layout_equals_copies(
    layout: Callable[[Tensor], Tensor], backend: Backend, dtype: torch.dtype
) -> None:
    case = Case((21, 6), num_heads=2, num_kv_heads=2, head_dim=24)
    views = {name: layout(x) for name, x in make_inputs(case, dtype).items()}
    copies = {name: view.contiguous() for name, view in views.items()}

    from_views = outputs_and_gradients(call(case), views, backend=backend)
    from_copies = outputs_and_gradients(call(case), copies, backend=backend)

    torch.testing.assert_close(from_views, from_copies, rtol=0, atol=0)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize(
    "use",
    [lambda out: out.sum().expand(out.shape), lambda out: out.transpose(0, 2)],
    ids=["sum", "transposed"],
)
def test_gradient_of_the_output_may_have_any_layout(
    use: Callable[[Tensor], Tensor], backend: Backend
) -> None:
    case = Case((21, 6))

    assert_equals_reference(
        lambda **inputs: use(call(case)(**inputs)[0]),
        make_inputs(case, torch.float32),
        backend=backend,
    )


def test_addresses_do_not_wrap_at_32_bits() -> None:
    # of the 8 GiB only the pages of the two heads are ever touched
    memory = torch.empty(2**31 + 5 * 16, dtype=torch.float32)
    q = memory.as_strided((5, 2, 16), (16, 2**31, 1))
    q.copy_(torch.randn(5, 2, 16))
    case = Case((5,), num_kv_heads=2)
    inputs = make_inputs(case, torch.float32)

    far = outputs_and_gradients(call(case), inputs | {"q": q, "k": q}, backend="gpu")
    near = outputs_and_gradients(
        call(case), inputs | {"q": q.clone(), "k": q.clone()}, backend="gpu"
    )

    torch.testing.assert_close(far["output 0"], near["output 0"], rtol=0, atol=0)


def test_cpu_results_do_not_depend_on_threads() -> None:
    case = replace(CASES["one-long-many-short"], num_heads=6, num_kv_heads=2)
    inputs = make_inputs(case, torch.float32)
    num_threads = torch.get_num_threads()

    torch.set_num_threads(1)
    alone = outputs_and_gradients(call(case), inputs, backend="cpu")
    torch.set_num_threads(3)
    shared = outputs_and_gradients(call(case), inputs, backend="cpu")
    torch.set_num_threads(num_threads)

    torch.testing.assert_close(shared, alone, rtol=0, atol=0)


@pytest.mark.parametrize(("backend", "dtype"), PATHS)
def test_inference_equals_training(backend: Backend, dtype: torch.dtype) -> None:
    case = Case((21, 6), (25, 6))
    inputs = make_inputs(case, dtype)
    trained = outputs_and_gradients(call(case), inputs, backend=backend)

    with torch.inference_mode(), interpret(), use_backend(backend):
        out, lse = call(case)(**inputs)

    torch.testing.assert_close((out, lse), (trained["output 0"], trained["output 1"]))


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_operations_obey_the_rules_of_torch_library(backend: Backend) -> None:
    case = Case((4, 3), (6, 3), num_heads=1, num_behind=1, scale=0.3)
    inputs = {name: x.nan_to_num() for name, x in make_inputs(case, torch.float32).items()}
    settings = (*packed(case).values(), *NO_OPTIONS, backend)
    leaves = [x.requires_grad_() for x in inputs.values()]

    with interpret():
        torch.library.opcheck(WELDLM.attention.default, (*leaves, *settings))
        out, lse = WELDLM.attention(*(x.detach() for x in leaves), *settings)
        saved = (*(x.detach() for x in leaves), out, lse)
        torch.library.opcheck(
            WELDLM.attention_backward.default, (torch.ones_like(out), *saved, *settings)
        )


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_compiled_equals_eager(backend: Backend) -> None:
    case = Case((21, 6), num_behind=2)
    inputs = make_inputs(case, torch.float32)
    compiled = torch.compile(call(case), backend="aot_eager", fullgraph=True)

    actual = outputs_and_gradients(compiled, inputs, backend=backend)

    expected = outputs_and_gradients(call(case), inputs, backend=backend)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((4, 8), (4, 8), (4, 8)), "expected three dimensions"),
        (((4, 2, 8), (4, 2, 16), (4, 2, 16)), "expected one head_dim for q and k"),
        (((4, 2, 8), (4, 2, 8), (5, 2, 8)), "one length for k and v"),
        (((4, 3, 8), (4, 2, 8), (4, 2, 8)), "num_heads to be a multiple of num_kv_heads"),
    ],
    ids=["dimensions", "head-size", "length", "heads"],
)
def test_shapes_that_do_not_fit_are_named(shapes: Any, message: str) -> None:
    tensors = [torch.zeros(shape) for shape in shapes]

    with pytest.raises(ValueError, match=message):
        attention(*tensors, **packed(Case((4,))))


def test_offsets_that_do_not_fit_are_named() -> None:
    x = torch.zeros(4, 1, 8)
    settings = packed(Case((4,))) | {"k_offsets": offsets((2, 2))}

    with pytest.raises(ValueError, match=r"q_offsets \(2,\) and k_offsets \(3,\)"):
        attention(x, x, x, **settings)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (Case((4,), head_dim=264), "head_dim is 264 .* at most 256"),
        (Case((4,), scale=0.0), "scale is 0.0"),
    ],
    ids=["head-size", "scale"],
)
def test_gpu_names_what_it_does_not_do(case: Case, message: str) -> None:
    inputs = make_inputs(case, torch.float32)

    with interpret(), use_backend("gpu"), pytest.raises(ValueError, match=message):
        call(case)(**inputs)


@pytest.mark.parametrize("name", ["q_offsets", "k_offsets"])
@pytest.mark.parametrize("offsets", [[1, 2, 6], [0, 4, 2], [0, 2, 7]], ids=str)
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_offsets_that_do_not_fit_the_rows_are_refused(
    backend: Backend, name: str, offsets: list[int]
) -> None:
    x = torch.randn(6, 2, 8)
    right, wrong = (torch.tensor(each, dtype=torch.int32) for each in ([0, 2, 6], offsets))
    given = {"q_offsets": right, "k_offsets": right, name: wrong}

    with (
        use_backend(backend),
        pytest.raises(ValueError, match=rf"{name} .* do not fit 6 rows; expected 0 first"),
    ):
        attention(x, x, x, q_max_length=6, k_max_length=6, is_causal=True, **given)
