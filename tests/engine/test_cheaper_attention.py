"""Grouped heads and windows made of other models: against transformers and hand-made weights."""

from pathlib import Path

import pytest
import torch

from tests.engine.their_models import packed_logits
from tests.engine.tiny_models import tiny_model
from weldlm.cheaper_attention import group_kv_heads, with_window
from weldlm.convert import convert_model
from weldlm.heads import CausalLM
from weldlm.weights import load_pretrained, save_pretrained

transformers = pytest.importorskip("transformers")

IDS = torch.randint(97, (40,), generator=torch.Generator().manual_seed(1))


def test_heads_that_are_alike_are_joined_without_loss() -> None:
    model = tiny_model("llama-tiny", num_kv_heads=4)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("attention.qkv.weight"):
                kv = weight[32:].view(2, 2, 2, 8, 32)  # k and v, pairs of heads of 8
                kv[:, :, 1] = kv[:, :, 0]

    grouped = group_kv_heads(model, 2)

    assert grouped.config.num_kv_heads == 2
    torch.testing.assert_close(packed_logits(grouped, [IDS]), packed_logits(model, [IDS]))


def test_joined_heads_are_means() -> None:
    model = tiny_model("llama-tiny", num_kv_heads=4)

    grouped = group_kv_heads(model, 1)

    name = "transformer.blocks.1.attention.qkv.weight"
    before, after = model.state_dict()[name], grouped.state_dict()[name]
    torch.testing.assert_close(after[:32], before[:32])
    torch.testing.assert_close(after[32:40], before[32:64].view(4, 8, 32).mean(0))
    torch.testing.assert_close(after[40:], before[64:].view(4, 8, 32).mean(0))


def test_window_is_that_of_transformers(tmp_path: Path) -> None:
    ours = with_window(tiny_model("llama-tiny"), 8)
    save_pretrained(ours, tmp_path / "model")

    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()

    assert theirs.config.sliding_window == 8
    with torch.no_grad():
        expected = theirs(IDS[None]).logits[0]
    torch.testing.assert_close(packed_logits(ours, [IDS]), expected, atol=1e-5, rtol=1e-4)
    whole = packed_logits(tiny_model("llama-tiny"), [IDS])
    assert not torch.allclose(packed_logits(ours, [IDS])[-1], whole[-1])


def test_window_of_the_whole_context_changes_nothing() -> None:
    model = tiny_model("llama-tiny")

    torch.testing.assert_close(
        packed_logits(with_window(model, 64), [IDS]), packed_logits(model, [IDS])
    )


def test_conversion_judges_before_and_after(tmp_path: Path) -> None:
    save_pretrained(tiny_model("llama-tiny", num_kv_heads=4), tmp_path / "model")
    judged: list[tuple[int, int | None]] = []

    convert_model(
        tmp_path / "model",
        tmp_path / "cheaper",
        num_kv_heads=2,
        window=16,
        judge=lambda model, _: judged.append((model.config.num_kv_heads, model.config.window)),
    )

    config = load_pretrained(tmp_path / "cheaper", CausalLM).config
    assert judged == [(4, None), (2, 16)]
    assert (config.num_kv_heads, config.window, config.family) == (2, 16, "mistral")


@pytest.mark.parametrize(
    ("name", "number", "message"),
    [
        ("llama-tiny", 3, "num_kv_heads is 3; expected a divisor of the model's 2"),
        ("llama-tiny", 0, "num_kv_heads is 0"),
        ("gpt2-tiny", 2, "num_kv_heads is 2, which no gpt2 model has"),
    ],
)
def test_heads_that_cannot_be_joined_are_refused(name: str, number: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        group_kv_heads(tiny_model(name), number)


@pytest.mark.parametrize(
    ("name", "window", "message"),
    [
        ("llama-tiny", 0, "window is 0; expected 1 to the model's context_length 64"),
        ("llama-tiny", 65, "window is 65"),
        ("gpt2-tiny", 8, "window is 8, which no gpt2 model has"),
    ],
)
def test_windows_that_cannot_be_are_refused(name: str, window: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_window(tiny_model(name), window)
