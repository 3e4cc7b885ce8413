"""Options of attention that change which keys a query sees, or how scores become weights."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tests.kernels.interpreter import interpret
from tests.kernels.oracle import assert_equals_reference
from tests.kernels.test_attention import NO_OPTIONS, Case, call, make_inputs, packed
from weldlm_kernels import attention, explain, use_backend
from weldlm_kernels.attention import cpu_blocks
from weldlm_kernels.attention.options import Options
from weldlm_kernels.backend import Backend

WINDOWED = {
    "causal": Case((5, 130, 300), window=7),
    "full": Case((5, 130, 300), window=7, is_causal=False),
    "neighbors": Case((9, 140), window=2),
    "neighbors-full": Case((9, 140), window=2, is_causal=False),
    "wider-than-a-chunk": Case((400, 129), window=200, num_heads=4, num_kv_heads=2),
    "wider-than-a-chunk-full": Case((400, 129), window=200, is_causal=False),
    "more-keys": Case((1, 70, 3), (200, 130, 3), window=50, num_behind=2),
    "more-keys-full": Case((1, 70, 3), (200, 130, 3), window=50, is_causal=False),
    "fewer-keys": Case((9, 140, 3), (4, 70, 3), window=20),
    "fewer-keys-full": Case((9, 200, 3), (4, 70, 0), window=20, is_causal=False),
    "some-sequences-wider": Case((3, 300, 60), window=60),
}


def dense_attention(
    case: Case, inputs: dict[str, Tensor], *, window: int | None, softcap: float | None
) -> Tensor:
    """Softmax over a dense score matrix, sequence by sequence, of equal query and key lengths."""
    outs = []
    for start, end in pairwise(packed(case)["q_offsets"].tolist()):
        q, k, v = (x[start:end].transpose(0, 1) for x in inputs.values())
        scores = q @ k.transpose(1, 2) * (case.scale or case.head_dim**-0.5)
        if softcap is not None:
            scores = softcap * (scores / softcap).tanh()
        places = torch.arange(end - start)
        behind = places.unsqueeze(1) - places
        is_seen = torch.ones_like(behind, dtype=torch.bool)
        if case.is_causal:
            is_seen &= behind >= 0
        if window is not None:
            is_seen &= behind.abs() < window
        outs.append((scores.masked_fill(~is_seen, -torch.inf).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(outs)


@pytest.mark.parametrize("is_causal", [True, False], ids=["causal", "full"])
@pytest.mark.parametrize(
    ("window", "softcap"), [(4, None), (None, 0.7), (4, 0.7)], ids=["window", "softcap", "both"]
)
def test_reference_is_a_masked_softmax(
    is_causal: bool, window: int | None, softcap: float | None
) -> None:
    case = Case((5, 9), is_causal=is_causal, num_heads=2, num_kv_heads=2)
    inputs = make_inputs(case, torch.float64)

    out, _ = attention(**inputs, **(packed(case) | {"window": window}), softcap=softcap)

    expected = dense_attention(case, inputs, window=window, softcap=softcap)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("is_bidirectional", [True, False], ids=["bidirectional", "backward"])
def test_relative_bias_and_its_gradient_are_those_of_a_dense_bias(is_bidirectional: bool) -> None:
    modeling_t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    case = Case((40,), is_causal=not is_bidirectional, num_heads=2, num_kv_heads=2)
    q, k, v = make_inputs(case, torch.float64).values()
    table = torch.randn(8, 2, dtype=torch.float64, requires_grad=True)

    out, _ = attention(
        q,
        k,
        v,
        **packed(case),
        relative_bias=table,
        relative_bias_max_distance=20,
        relative_bias_is_bidirectional=is_bidirectional,
    )

    places = torch.arange(40)
    distance = places - places.unsqueeze(1)
    buckets = modeling_t5.T5Attention._relative_position_bucket(distance, is_bidirectional, 8, 20)
    bias = table[buckets].permute(2, 0, 1)
    if case.is_causal:
        bias = bias.masked_fill(distance > 0, -torch.inf)
    scores = torch.einsum("t h d, s h d -> h t s", q, k) / 4 + bias
    expected = torch.einsum("h t s, s h d -> t h d", scores.softmax(-1), v)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(
        torch.autograd.grad(out.square().sum(), table),
        torch.autograd.grad(expected.square().sum(), table),
    )


def test_relative_bias_keeps_its_places_when_keys_come_from_a_cache() -> None:
    case = Case((3,), (30,), num_heads=2, num_kv_heads=2)
    whole = Case((30,), num_heads=2, num_kv_heads=2)
    q, k, v = make_inputs(whole, torch.float64).values()
    bias = {"relative_bias": torch.randn(8, 2).double(), "relative_bias_max_distance": 20}

    out, _ = attention(q[27:], k, v, **packed(case), **bias)

    expected, _ = attention(q, k, v, **packed(whole), **bias)
    torch.testing.assert_close(out, expected[27:])


@pytest.mark.parametrize("case", WINDOWED.values(), ids=WINDOWED.keys())
def test_cpu_equals_reference_in_a_window(case: Case) -> None:
    assert_equals_reference(call(case), make_inputs(case, torch.float32), backend="cpu")


def test_a_window_as_long_as_the_sequences_changes_nothing() -> None:
    case = Case((21, 6), window=21)
    inputs = make_inputs(case, torch.float32)

    windowed = call(case)(**inputs)

    torch.testing.assert_close(windowed, call(replace(case, window=None))(**inputs), rtol=0, atol=0)


def test_windowed_attention_obeys_the_rules_of_torch_library() -> None:
    case = Case((9, 3), window=4, scale=0.3)
    leaves = [x.requires_grad_() for x in make_inputs(case, torch.float32).values()]
    settings = (*packed(case).values(), *NO_OPTIONS, "cpu")

    torch.library.opcheck(torch.ops.weldlm.attention.default, (*leaves, *settings))


OPTIONS: dict[str, dict[str, Any]] = {
    "softcap": {"softcap": 0.8},
    "bias": {"relative_bias_max_distance": 20},
    "bias-both-ways": {"relative_bias_max_distance": 20, "relative_bias_is_bidirectional": True},
    "alibi": {"alibi_slopes": torch.tensor([0.5, 0.1])},
    "dropout": {"dropout_p": 0.3, "dropout_seed": torch.tensor([2**40 + 5])},
    "all": {"softcap": 0.8, "relative_bias_max_distance": 20},
}
OPTIONS["all"] |= OPTIONS["alibi"] | OPTIONS["dropout"]
BIASED = ("bias", "bias-both-ways", "all")
SCORED = [name for name, options in OPTIONS.items() if "dropout_p" not in options]


def call_with(
    case: Case, options: dict[str, Any], *, has_bias: bool
) -> Callable[..., tuple[Tensor, Tensor]]:
    def attend(
        q: Tensor, k: Tensor, v: Tensor, table: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        bias = {"relative_bias": table} if has_bias else {}
        out, lse = attention(q, k, v, **packed(case), **options, **bias)
        return out, lse.detach()

    return attend


CASES = pytest.mark.parametrize(
    "case",
    [
        Case((9, 0, 30, 5), num_heads=2, num_kv_heads=1, num_behind=2, window=12),
        Case((9, 30), (14, 40), num_heads=2, is_causal=False, window=13),
        Case((9, 30), (4, 0), num_heads=2),
    ],
    ids=["causal", "full", "fewer-keys"],
)


@pytest.mark.parametrize("most_rows", [8, 256], ids=["many-blocks", "one-block"])
@pytest.mark.parametrize("name", SCORED)
@CASES
def test_cpu_equals_reference_with_other_scores(
    case: Case, name: str, most_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_blocks, "_MOST_ROWS", most_rows)
    inputs = make_inputs(case, torch.float32)
    if name in BIASED:
        inputs["table"] = torch.randn(8, 2, generator=torch.Generator().manual_seed(1))

    attend = call_with(case, OPTIONS[name], has_bias=name in BIASED)

    assert_equals_reference(attend, inputs, backend="cpu")


def test_biased_scores_of_a_long_sequence_take_a_fixed_amount_of_memory() -> None:
    offsets = torch.tensor([0, 6000], dtype=torch.int32)
    x, bias = torch.zeros(6000, 2, 4), torch.zeros(8, 2)
    options = Options(True, None, 1.0, bias, 20, False, None, None, 0.0, None)

    sizes = [
        (block.rows.stop - block.rows.start) * (block.keys.stop - block.keys.start) * 2
        for block in cpu_blocks._blocks(x, x, offsets, offsets, options)
    ]

    assert max(sizes) <= 2**21
    assert sum(sizes) < 0.6 * 2 * 6000**2  # keys behind a query take no part


@pytest.mark.parametrize("name", [name for name in OPTIONS if name not in SCORED])
@CASES
def test_recomputed_gradients_are_those_of_the_reference(case: Case, name: str) -> None:
    inputs = make_inputs(case, torch.float32)
    attend = call_with(case, OPTIONS[name], has_bias=name in BIASED)
    if name in BIASED:
        inputs["table"] = torch.randn(8, case.num_heads)
    leaves, others = (
        {key: x.clone().requires_grad_() for key, x in inputs.items()} for _ in range(2)
    )

    out, lse = attend(**leaves)
    with use_backend("reference"):
        expected_out, expected_lse = attend(**others)
    out.square().sum().backward()
    expected_out.square().sum().backward()

    torch.testing.assert_close((out, lse), (expected_out, expected_lse), rtol=0, atol=0)
    torch.testing.assert_close(
        [x.grad for x in leaves.values()], [x.grad for x in others.values()], equal_nan=True
    )


@pytest.mark.parametrize("name", OPTIONS)
def test_recomputed_gradients_pass_activation_checkpointing(name: str) -> None:
    # it hands each saved tensor out a single time
    case = Case((9, 5), num_heads=2, num_kv_heads=2)
    inputs = make_inputs(case, torch.float32) | (
        {"table": torch.randn(8, 2)} if name in BIASED else {}
    )
    attend = call_with(case, OPTIONS[name], has_bias=name in BIASED)
    leaves, others = (
        {key: x.clone().requires_grad_() for key, x in inputs.items()} for _ in range(2)
    )

    checkpoint(attend, *leaves.values(), use_reentrant=False)[0].square().sum().backward()
    attend(**others)[0].square().sum().backward()

    torch.testing.assert_close(
        [x.grad for x in leaves.values()], [x.grad for x in others.values()], rtol=0, atol=0
    )


# values of the operation between scale and backend
SETTINGS = {
    "bias": (torch.randn(8, 2), 20, True, None, None, 0.0, None),
    "softcap": (None, 128, False, None, 0.9, 0.0, None),
    "all": (torch.randn(8, 2), 20, False, torch.tensor([0.5, 0.1]), 0.9, 0.2, torch.tensor(7)),
}


@pytest.mark.parametrize(
    ("backend", "name"),
    [("recomputed", "bias"), ("recomputed", "softcap"), ("recomputed", "all"), ("gpu", "all")],
)
def test_options_obey_the_rules_of_torch_library(backend: str, name: str) -> None:
    offsets = torch.tensor([0, 9, 12], dtype=torch.int32)
    bias, *others = SETTINGS[name]
    lengths = (offsets, offsets, 9, 9, True, 4, 0.3)
    inputs = [torch.randn(12, 2, 8) for _ in range(3)]
    leaves = [x.clone().requires_grad_() for x in inputs]
    leaf_bias = None if bias is None else bias.clone().requires_grad_()

    with interpret():
        torch.library.opcheck(
            torch.ops.weldlm.attention.default, (*leaves, *lengths, leaf_bias, *others, backend)
        )
        settings = (*lengths, bias, *others, backend)
        saved = torch.ops.weldlm.attention(*inputs, *settings)
        torch.library.opcheck(
            torch.ops.weldlm.attention_backward.default,
            (torch.randn(12, 2, 8), *inputs, *saved, *settings),
        )


def test_options_compile_without_a_graph_break() -> None:
    case = Case((21, 6), num_heads=2, num_kv_heads=2)
    inputs = make_inputs(case, torch.float32) | {"table": torch.randn(8, 2)}
    attend = call_with(case, OPTIONS["all"], has_bias=True)
    compiled = torch.compile(attend, backend="aot_eager", fullgraph=True)
    leaves, others = (
        {key: x.clone().requires_grad_() for key, x in inputs.items()} for _ in range(2)
    )

    actual, expected = compiled(**leaves)[0], attend(**others)[0]
    actual.square().sum().backward()
    expected.square().sum().backward()

    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    torch.testing.assert_close(
        [x.grad for x in leaves.values()], [x.grad for x in others.values()], rtol=0, atol=0
    )


def test_dropout_takes_the_reference_and_says_so() -> None:
    case = Case((9, 3))
    inputs = make_inputs(case, torch.float32)

    out, _ = attention(**inputs, **packed(case), **OPTIONS["dropout"])

    with use_backend("reference"):
        expected, _ = attention(**inputs, **packed(case), **OPTIONS["dropout"])
    (choice,) = [choice for choice in explain() if choice.op == "attention"]
    assert "the reference for dropout" in choice.reason
    assert torch.equal(out, expected)


def test_forcing_dropout_onto_a_backend_without_it_raises() -> None:
    case = Case((9, 3))

    with (
        use_backend("cpu"),
        pytest.raises(RuntimeError, match="cpu backend, but dropout has no kernel there"),
    ):
        attention(**make_inputs(case, torch.float32), **packed(case), **OPTIONS["dropout"])


@pytest.mark.parametrize("name", ["k", "v"])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_several_dtypes_are_refused(backend: Backend, name: str) -> None:
    x = torch.zeros(4, 1, 8)
    tensors = {"q": x, "k": x, "v": x} | {name: x.half()}

    with (
        use_backend(backend),
        pytest.raises(TypeError, match=rf"{name} is torch.float16 and q torch.float32; expected"),
    ):
        attention(**tensors, **packed(Case((4,))))
