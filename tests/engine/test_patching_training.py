"""Patched models under HF Trainer, accelerate, PEFT and torch.compile; lazy logits."""

import copy
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import weldlm
from tests.engine.patched_models import FAMILIES, batch_of, tiny_model
from weldlm.patching.lazy_output import LazyLogits
from weldlm.patching.verification import loss_and_gradients

STEPS = 6


def rows_of(model: Any) -> list[dict[str, Tensor]]:
    """Padded rows with masks, as a data set; each step takes four."""
    batches = [batch_of(model, lengths=(3, 11, 1 + step, 7)) for step in range(STEPS)]
    return [
        {name: values[row] for name, values in batch.items()}
        for batch in batches
        for row in range(4)
    ]


def collate(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {
        name: torch.nn.utils.rnn.pad_sequence(
            [row[name] for row in rows], batch_first=True,
            padding_value=-100 if name == "labels" else 0,
        )
        for name in rows[0]
    }  # fmt: skip


def trained_losses(family: str, folder: Path, *, is_patched: bool, **settings: Any) -> list[float]:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    model = tiny_model(family)
    if is_patched:
        weldlm.patch(model)
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), max_steps=STEPS, per_device_train_batch_size=4, logging_steps=1,
        learning_rate=1e-2, save_strategy="no", report_to=[], use_cpu=True, seed=0,
        disable_tqdm=True, **settings,
    )  # fmt: skip
    trainer = transformers.Trainer(
        model, arguments, data_collator=collate, train_dataset=rows_of(model)
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "t5"])
def test_trainer_gives_the_same_loss_curve(family: str, tmp_path: Path) -> None:
    plain = trained_losses(family, tmp_path, is_patched=False)
    patched = trained_losses(family, tmp_path, is_patched=True)

    assert len(plain) == STEPS
    assert plain[-1] < 0.98 * plain[0]
    assert patched == pytest.approx(plain, rel=1e-3)


def test_trainer_in_bf16_gives_a_close_loss_curve(tmp_path: Path) -> None:
    plain = trained_losses("llama", tmp_path, is_patched=False, bf16=True)
    patched = trained_losses("llama", tmp_path, is_patched=True, bf16=True)

    # losses are logged with the four or five digits that bf16 leaves of their inputs
    assert patched == pytest.approx(plain, rel=1e-2)


def test_trainer_evaluates_with_logits(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    model = tiny_model("bert")
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), per_device_eval_batch_size=4, report_to=[], use_cpu=True,
        disable_tqdm=True,
    )  # fmt: skip

    def predict() -> Any:
        trainer = transformers.Trainer(model, arguments, data_collator=collate)
        return trainer.predict(rows_of(model)[:4])

    plain = predict()
    weldlm.patch(model)
    patched = predict()

    is_labelled = plain.label_ids != -100
    assert is_labelled.any()
    torch.testing.assert_close(
        torch.from_numpy(patched.predictions[is_labelled]),
        torch.from_numpy(plain.predictions[is_labelled]),
        rtol=1e-5, atol=1e-5,
    )  # fmt: skip
    assert patched.metrics["test_loss"] == pytest.approx(plain.metrics["test_loss"], rel=1e-5)


def test_accelerate_computes_no_logits_in_training() -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    model = tiny_model("bert")
    batch = batch_of(model)
    report = weldlm.patch(model)
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision="bf16")

    prepared = accelerator.prepare_model(model)
    calls = []
    projection = model.cls.predictions.decoder
    outputs = prepared(**batch)
    accelerator.backward(outputs.loss)
    projection.register_forward_hook(lambda *_: calls.append(1))

    assert isinstance(vars(outputs)["logits"], LazyLogits)
    assert outputs.loss.item() == pytest.approx(tiny_model("bert")(**batch).loss.item(), rel=2e-2)
    assert outputs.logits.shape == (4, 11, 97)
    assert calls == [1]
    with pytest.raises(RuntimeError, match="was wrapped since"):
        report.revert()
    unwrapped = accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)
    named = {"labels": batch["labels"], "attention_mask": batch["attention_mask"]}
    expected = tiny_model("bert")(**batch).loss.item()
    assert unwrapped(batch["input_ids"], **named).loss.item() == pytest.approx(expected, rel=1e-5)
    report.revert()
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("is_patched_first", [True, False], ids=["patch-lora", "lora-patch"])
@pytest.mark.parametrize(("family", "targets"), [
    ("llama", ["q_proj", "v_proj"]), ("gpt2", ["c_attn"]), ("bert", ["query", "decoder"]),
])  # fmt: skip
def test_lora_trains_as_before(family: str, targets: list[str], is_patched_first: bool) -> None:
    peft = pytest.importorskip("peft")
    settings = peft.LoraConfig(r=4, target_modules=targets, init_lora_weights=False)

    def adapted(*, is_patched: bool) -> Any:
        model = tiny_model(family)
        report = weldlm.patch(model) if is_patched and is_patched_first else None
        torch.manual_seed(1)
        wrapped = peft.get_peft_model(model, settings)
        if is_patched and not is_patched_first:
            report = weldlm.patch(wrapped)
        assert report is None or report.padding == "packed"
        return wrapped

    plain, patched = adapted(is_patched=False), adapted(is_patched=True)
    batch = batch_of(plain.get_base_model())
    before, after = loss_and_gradients(plain, batch), loss_and_gradients(patched, batch)

    assert len(before) > 4
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("is_masked", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize(
    "family",
    [
        *("gpt2", "bert"),
        *(
            pytest.param(family, marks=pytest.mark.slow)
            for family in FAMILIES
            if family not in ("gpt2", "bert")
        ),
    ],
)
def test_torch_compile_meets_no_graph_break(family: str, is_masked: bool) -> None:
    model = tiny_model(family)
    batch = {
        name: values for name, values in batch_of(model).items() if is_masked or "mask" not in name
    }
    weldlm.patch(model)

    torch._dynamo.reset()
    explained = torch._dynamo.explain(model)(**batch)

    operations = Counter(
        str(node.target)
        for graph in explained.graphs
        for node in graph.graph.nodes
        if "weldlm" in str(node.target)
    )
    assert explained.graph_break_count == 0, explained.break_reasons
    assert operations["weldlm.linear_cross_entropy.default"] == 1
    assert any("norm" in name for name in operations)
    assert any("attention" in name for name in operations) == (not is_masked)


@pytest.mark.parametrize("is_masked", [False, True], ids=["full", "padded"])
def test_compiled_gradients_are_those_of_eager(is_masked: bool) -> None:
    model = tiny_model("gpt2")
    batch = {
        name: values for name, values in batch_of(model).items() if is_masked or "mask" not in name
    }
    before = loss_and_gradients(model, batch)
    weldlm.patch(model)

    torch._dynamo.reset()
    compiled: Any = torch.compile(model, backend="aot_eager", fullgraph=True)
    compiled(**batch).loss.backward()

    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, before[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.fixture
def outputs() -> Any:
    """Of a patched model, with gradients."""
    model = tiny_model("bert")
    weldlm.patch(model)
    return model(**batch_of(model))


def is_pending(outputs: Any) -> bool:
    return isinstance(vars(outputs)["logits"], LazyLogits)


@pytest.mark.parametrize("ask", [
    lambda outputs: outputs.logits, lambda outputs: outputs["logits"], lambda outputs: outputs[1],
    lambda outputs: outputs.to_tuple()[1], lambda outputs: outputs.get("logits"),
    lambda outputs: outputs[:2][1], lambda outputs: copy.copy(outputs).logits,
], ids=["attribute", "key", "index", "tuple", "get", "slice", "copy"])  # fmt: skip
def test_logits_are_computed_when_asked_for(outputs: Any, ask: Any) -> None:
    plain = tiny_model("bert")
    batch = batch_of(plain)
    is_real = batch["attention_mask"].bool()

    assert is_pending(outputs)
    logits = ask(outputs)

    torch.testing.assert_close(
        logits[is_real], plain(**batch).logits[is_real], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("ask", [
    lambda outputs: outputs.loss, lambda outputs: outputs["loss"], lambda outputs: outputs[0],
    lambda outputs: list(outputs), lambda outputs: "logits" in outputs, repr,
    lambda outputs: dict(outputs.items()), lambda outputs: type(outputs)(dict(outputs.items())),
], ids=["loss", "key", "index", "names", "contains", "repr", "items", "rebuilt"])  # fmt: skip
def test_logits_are_not_computed_for_others(outputs: Any, ask: Any) -> None:
    ask(outputs)

    assert is_pending(outputs)


def test_rebuilt_output_has_its_logits(outputs: Any) -> None:
    rebuilt = type(outputs)(dict(outputs.items()))

    assert torch.equal(rebuilt.logits, outputs.logits)
    assert rebuilt.loss is outputs.loss


def test_values_are_tensors_without_gradients(outputs: Any) -> None:
    with torch.no_grad():
        values = list(outputs.values())

    assert [type(value) for value in values] == [Tensor, Tensor]


def test_pickled_output_is_a_plain_one(outputs: Any) -> None:
    with torch.no_grad():
        detached = type(outputs)({name: value.detach() for name, value in outputs.items()})

    loaded = pickle.loads(pickle.dumps(detached))

    assert type(loaded).__name__ == "MaskedLMOutput"
    assert torch.equal(loaded.logits, detached.logits)


def test_logits_have_a_gradient(outputs: Any) -> None:
    assert outputs.logits.requires_grad
    assert torch.autograd.grad(outputs.logits.sum(), outputs.logits)[0].shape == (4, 11, 97)
