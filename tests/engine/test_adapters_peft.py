"""PEFT folders: equal logits both ways, and what cannot be expressed is refused by name."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.engine.their_models import SIZES, ragged_ids, their_model
from tests.engine.tiny_models import tiny_model
from weldlm.adapters import (
    LoraSettings,
    add_lora,
    load_adapter,
    remove_adapters,
    save_adapter,
    set_adapter,
)
from weldlm.heads import CausalLM, MaskedLM, Model, Seq2SeqLM, SequenceClassifier
from weldlm.packing import PackedBatch
from weldlm.weights import load_pretrained

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

GPT2 = {"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
NO_IDS = {"bos_token_id": 0, "eos_token_id": 0}
T5 = {"vocab_size": 97, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
SEQUENCES = ragged_ids(5, 17, 1, 31)


@dataclass(frozen=True)
class Case:
    """A model of transformers, and an adapter on it."""

    architecture: str
    config: Callable[[], Any]
    head: type[Model]
    task: str | None
    targets: list[str]
    options: dict[str, Any]


CASES = [
    pytest.param(
        Case(
            "GPT2LMHeadModel",
            lambda: transformers.GPT2Config(**GPT2, **NO_IDS, resid_pdrop=0.0),
            CausalLM,
            "CAUSAL_LM",
            ["c_attn", "c_proj", "c_fc"],
            {"use_rslora": True},
        ),
        id="gpt2-conv1d",
    ),
    pytest.param(
        Case(
            "LlamaForCausalLM",
            lambda: transformers.LlamaConfig(**SIZES, num_key_value_heads=2),
            CausalLM,
            "CAUSAL_LM",
            ["q_proj", "v_proj", "up_proj", "down_proj"],
            {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {r"layers.1.*v_proj": 9}},
        ),
        id="llama-part-of-qkv",
    ),
    pytest.param(
        Case(
            "BertForSequenceClassification",
            lambda: transformers.BertConfig(**SIZES, num_labels=3),
            SequenceClassifier,
            "SEQ_CLS",
            ["query", "value", "dense"],
            {},
        ),
        id="bert-with-classifier",
    ),
    pytest.param(
        Case(
            "BertForMaskedLM",
            lambda: transformers.BertConfig(**SIZES),
            MaskedLM,
            None,
            ["key", "attention.output.dense"],
            {"layers_to_transform": [1]},
        ),
        id="bert-one-layer",
    ),
    pytest.param(
        Case(
            "T5ForConditionalGeneration",
            lambda: transformers.T5Config(**T5, decoder_start_token_id=0, dropout_rate=0.0),
            Seq2SeqLM,
            "SEQ_2_SEQ_LM",
            ["q", "v", "o", "wi"],
            {},
        ),
        id="t5-cross-attention",
    ),
]


def trained_adapter(model: Any, case: Case) -> Any:
    """Theirs, with weights away from the start so that it changes the logits visibly."""
    config = peft.LoraConfig(
        r=3, lora_alpha=7, target_modules=case.targets, task_type=case.task, **case.options
    )
    adapted = peft.get_peft_model(model, config).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                weight.add_(torch.randn_like(weight) * 0.1)
    return adapted


@torch.no_grad()
def their_logits(model: Any, head: type[Model]) -> Tensor:
    if issubclass(head, SequenceClassifier):
        return torch.cat([model(input_ids=ids[None]).logits for ids in SEQUENCES])
    if issubclass(head, Seq2SeqLM):
        outputs = [model(input_ids=ids[None], decoder_input_ids=ids[None]) for ids in SEQUENCES]
    else:
        outputs = [model(input_ids=ids[None]) for ids in SEQUENCES]
    return torch.cat([output.logits[0] for output in outputs])


@torch.no_grad()
def our_logits(model: Any) -> Tensor:
    batch = PackedBatch.from_sequences(SEQUENCES)
    both = (batch, batch) if isinstance(model, Seq2SeqLM) else (batch,)
    return model.logits(*both)  # type: ignore[no-any-return]


def assert_equal_logits(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
@pytest.mark.parametrize("case", CASES)
def test_folders_give_equal_logits_both_ways(case: Case, tmp_path: Path) -> None:
    theirs = their_model(case.config(), case.architecture)
    theirs.save_pretrained(tmp_path / "base")
    plain = their_logits(theirs, case.head)
    adapted = trained_adapter(theirs, case)
    adapted.save_pretrained(tmp_path / "theirs")
    expected = their_logits(adapted, case.head)

    ours = load_pretrained(tmp_path / "base", case.head)
    load_adapter(ours, tmp_path / "theirs")
    save_adapter(ours, tmp_path / "ours")
    base = getattr(transformers, case.architecture).from_pretrained(tmp_path / "base")
    again = peft.PeftModel.from_pretrained(base, tmp_path / "ours").eval()

    assert (expected - plain).abs().max() > 0.1
    assert_equal_logits(our_logits(ours), expected)
    assert_equal_logits(their_logits(again, case.head), expected)


@pytest.mark.parametrize("targets", [("attention", "mlp"), ("q_proj", "v_proj"), ("*.blocks.1.*",)])
def test_adapter_made_here_loads_in_peft(targets: tuple[str, ...], tmp_path: Path) -> None:
    theirs = their_model(
        transformers.LlamaConfig(**SIZES, num_key_value_heads=2), "LlamaForCausalLM"
    )
    theirs.save_pretrained(tmp_path / "base")
    ours = load_pretrained(tmp_path / "base")
    add_lora(ours, LoraSettings(rank=2, targets=targets))
    with torch.no_grad():
        for weight in ours.parameters():
            weight += torch.randn_like(weight) * 0.1 * weight.requires_grad

    save_adapter(ours, tmp_path / "ours")
    adapted = peft.PeftModel.from_pretrained(theirs, tmp_path / "ours").eval()

    assert_equal_logits(their_logits(adapted, CausalLM), our_logits(ours))


def test_sum_of_shares_equals_peft(tmp_path: Path) -> None:
    theirs = their_model(
        transformers.LlamaConfig(**SIZES, num_key_value_heads=2), "LlamaForCausalLM"
    )
    theirs.save_pretrained(tmp_path / "base")
    ours = load_pretrained(tmp_path / "base")
    for name, targets in (("a", ("attention",)), ("b", ("attention.qkv", "mlp"))):
        add_lora(ours, LoraSettings(rank=2, targets=targets), name)
        with torch.no_grad():
            for weight in ours.parameters():
                weight += torch.randn_like(weight) * 0.1 * weight.requires_grad
        save_adapter(ours, tmp_path / name, name)
    adapted = peft.PeftModel.from_pretrained(theirs, tmp_path / "a", "a").eval()
    adapted.load_adapter(tmp_path / "b", "b")
    adapted.add_weighted_adapter(["a", "b"], [0.7, 1.6], "both", combination_type="cat")
    adapted.set_adapter("both")

    set_adapter(ours, {"a": 0.7, "b": 1.6})

    assert_equal_logits(our_logits(ours), their_logits(adapted, CausalLM))


def saved(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """An adapter on the attention of the tiny Llama, as it lies in its folder."""
    model = tiny_model("llama-tiny")
    add_lora(model, LoraSettings(rank=2))
    save_adapter(model, folder)
    fields = json.loads((folder / "adapter_config.json").read_text())
    return fields, load_file(folder / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "use_dora = true is not supported"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"bias": "all"}, "bias = 'all' is not supported"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa' is not supported"),
        ({"layer_replication": [[0, 2]]}, r"layer_replication = \[\[0, 2\]\] is not supported"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"another_trick": 2}, "another_trick = 2 is not supported"),
        ({"r": 0}, "r is 0; expected an integer above 0"),
        ({"lora_alpha": "8"}, "lora_alpha is '8'; expected a number"),
        ({"rank_pattern": {"(": 2}}, "is no regular expression"),
        ({"r": 4}, r"is \(2, 32\) in torch.float32; expected \(4, 32\)"),
    ],
)
def test_unsupported_config_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    fields, _ = saved(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(fields | change))

    with pytest.raises(ValueError, match=message):
        load_adapter(tiny_model("llama-tiny"), tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.layers.0.self_attn.q_proj.lora_magnitude_vector", "lora_magnitude_vector"),
        ("lm_head.lora_A.weight", r"lm_head.lora_A.weight'.* of kind causal_lm has no place"),
        ("model.layers.7.self_attn.q_proj.lora_A.weight", "layers.7.self_attn"),
        ("model.embed_tokens.weight", "embed_tokens"),
    ],
)
def test_surplus_tensor_is_refused(name: str, message: str, tmp_path: Path) -> None:
    _, tensors = saved(tmp_path)
    tensors[f"base_model.model.{name}"] = torch.zeros(2, 32)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    model = tiny_model("llama-tiny")
    names = list(model.state_dict())

    with pytest.raises(ValueError, match=message):
        load_adapter(model, tmp_path)
    assert list(model.state_dict()) == names


def test_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)

    with pytest.raises(ValueError, match="has no pair for a layer of this gpt2 model"):
        load_adapter(tiny_model("gpt2-tiny"), tmp_path)
    with pytest.raises(ValueError, match=r"q_proj.lora_A.weight' is \(2, 32\).*\(2, 16\)"):
        load_adapter(tiny_model("llama-tiny", hidden_size=16), tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()

    with pytest.raises(FileNotFoundError, match=r"adapter_model.safetensors does not exist"):
        load_adapter(tiny_model("llama-tiny"), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"adapter_config.json does not exist"):
        load_adapter(tiny_model("llama-tiny"), tmp_path / "elsewhere")


def test_damaged_file_is_named(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0not json")

    with pytest.raises(ValueError, match=r"adapter_model.safetensors is damaged"):
        load_adapter(tiny_model("llama-tiny"), tmp_path)


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pickle_gives_tensors_and_runs_no_code(tmp_path: Path) -> None:
    _, tensors = saved(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    torch.save(tensors, tmp_path / "adapter_model.bin")
    model = tiny_model("llama-tiny")

    load_adapter(model, tmp_path)
    torch.save({"x": Harmful(tmp_path / "ran")}, tmp_path / "adapter_model.bin")

    layer = model.get_submodule("transformer.blocks.1.attention.qkv")
    down = layer.get_parameter("adapters.default.q_proj.down")
    key = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"
    assert torch.equal(down, tensors[key])
    remove_adapters(model)
    with pytest.raises(ValueError, match="holds more than tensors"):
        load_adapter(model, tmp_path)
    assert not (tmp_path / "ran").exists()


def test_second_head_is_refused(tmp_path: Path) -> None:
    config = transformers.BertConfig(**SIZES, num_labels=3)
    their_model(config, "BertForSequenceClassification").save_pretrained(tmp_path / "base")
    model = load_pretrained(tmp_path / "base", SequenceClassifier)
    add_lora(model, LoraSettings(trains_head=True), "a")
    save_adapter(model, tmp_path / "a", "a")
    with torch.no_grad():
        model.classifier.weight += 1

    with pytest.raises(ValueError, match="holds a head, and the model's belongs to the adapter"):
        load_adapter(model, tmp_path / "a", "b")
