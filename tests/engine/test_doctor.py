"""The doctor passes what is right, and names what is not, in our models and in theirs."""

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

from tests.engine.tiny_models import tiny_config
from weldlm.cli import main
from weldlm.doctor import Check, examine, examine_theirs
from weldlm.heads import HEADS, CausalLM, Model, language_head
from weldlm.layers import Cache
from weldlm.packing import PackedBatch
from weldlm.pretraining import adapt_config, tokenizer_options
from weldlm.tokenizer import Tokenizer
from weldlm.weights import save_pretrained

_RANDOM = random.Random(0)
WORDS = ["cat", "dog", "sat", "on", "the", "mat", "ran", "far", "and", "slept"]
TEXTS = [" ".join(_RANDOM.choices(WORDS, k=length)) for length in (9, 30, 5, 17, 12, 8, 25, 14, 40)]


def build(name: str) -> tuple[Model, Tokenizer]:
    sizes = {"head_scale": 32**-0.5, "num_encoder_layers": 2} if name == "t5-small" else {}
    config = tiny_config(name, **sizes)
    tokenizer = Tokenizer.train(TEXTS * 5, 300, allow_smaller=True, **tokenizer_options(config))
    config = adapt_config(config, tokenizer)
    torch.manual_seed(0)
    return HEADS[language_head(config)](config), tokenizer


def failed(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if not check.passed]


@pytest.mark.parametrize("name", ["gpt2-tiny", "llama-tiny", "bert-base", "t5-small"])
def test_right_models_pass(name: str) -> None:
    model, tokenizer = build(name)
    before = [weight.clone() for weight in model.parameters()]

    checks = examine(model, tokenizer, TEXTS)

    assert len(checks) == 6
    assert failed(checks) == []
    for weight, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(weight, old)


class Leaking(CausalLM):
    """Each token sees the mean of all documents."""

    def logits(self, batch: PackedBatch, cache: Cache | None = None) -> Tensor:
        logits = super().logits(batch, cache)
        return logits + logits.mean(dim=0)


class Unscaled(CausalLM):
    """The loss is a mean, as in many models of others."""

    def forward(self, batch: PackedBatch, labels: Tensor) -> tuple[Tensor, Tensor]:
        loss_sum, count = super().forward(batch, labels)
        return loss_sum / count, count


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Leaking, ["documents do not see each other", "labels stand where they belong"]),
        (
            Unscaled,
            ["labels stand where they belong", "micro-batches do not change the gradient"],
        ),
    ],
)
def test_wrong_models_fail_by_name(kind: type[CausalLM], expected: list[str]) -> None:
    model, tokenizer = build("gpt2-tiny")
    wrong = kind(model.config)

    assert failed(examine(wrong, tokenizer, TEXTS)) == expected


def test_models_of_transformers_show_what_is_known_of_them() -> None:
    _, tokenizer = build("gpt2-tiny")
    sizes = {"vocab_size": tokenizer.vocab_size, "hidden_size": 32, "intermediate_size": 48}
    bert = BertForMaskedLM(
        BertConfig(**sizes, num_hidden_layers=1, num_attention_heads=2, pad_token_id=0)
    )

    checks = examine_theirs(bert, tokenizer.encode_ordinary, TEXTS)

    assert "documents packed by position_ids do not see each other" in failed(checks)
    assert "nothing is padded" in failed(checks)


def test_accumulation_of_gpt2_in_transformers_is_right() -> None:
    _, tokenizer = build("gpt2-tiny")
    gpt2 = GPT2LMHeadModel(
        GPT2Config(vocab_size=tokenizer.vocab_size, n_embd=32, n_layer=1, n_head=2)
    )

    checks = examine_theirs(gpt2, tokenizer.encode_ordinary, TEXTS)

    assert "accumulation does not change loss and gradient" not in failed(checks)


def test_command_prints_a_line_a_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, tokenizer = build("gpt2-tiny")
    save_pretrained(model, tmp_path / "model")
    tokenizer.save(tmp_path / "model" / "tokenizer.json")
    (tmp_path / "text.txt").write_text(" ".join(TEXTS))

    with pytest.raises(SystemExit) as exit_:
        main(["doctor", str(tmp_path / "model"), "--data", str(tmp_path / "text.txt")])

    lines = capsys.readouterr().out.splitlines()
    assert exit_.value.code == 0
    assert lines[-1] == "6 of 6 checks passed"
    assert sum(line.startswith("pass  ") for line in lines) == 6


def test_too_little_text_is_refused() -> None:
    model, tokenizer = build("gpt2-tiny")

    with pytest.raises(ValueError, match="the data gives 0 sequences of 4 tokens or more"):
        examine(model, tokenizer, ["a"])
