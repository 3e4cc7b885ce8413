"""weldlm.patch: losses and gradients before and after, padding, reports, and the way back."""

import copy
import inspect
import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import weldlm
from tests.engine.patched_models import FAMILIES, batch_of, relative_differences, tiny_model
from weldlm.patching import uninstall
from weldlm.patching.verification import compare, exact_gradients, loss_and_gradients
from weldlm_kernels import functional

DECODERS = ("gpt2", "llama", "mistral", "qwen2", "qwen3")


@pytest.mark.parametrize(
    ("side", "implementation"), [("right", "sdpa"), ("left", "sdpa"), ("right", "eager")]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_keep_the_rule(family: str, side: str, implementation: str) -> None:
    model = tiny_model(family, implementation)
    batch = batch_of(model, side)
    before, exact = loss_and_gradients(model, batch), exact_gradients(model, batch)

    weldlm.patch(model)
    after = loss_and_gradients(model, batch)

    assert not compare(before, after, exact)
    assert max(relative_differences(before, after).values()) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_tokens_are_those_before(family: str) -> None:
    model = tiny_model(family)
    batch = batch_of(model)
    is_real = batch.get("decoder_attention_mask", batch["attention_mask"]).bool()
    before = model(**batch)

    weldlm.patch(model)
    after = model(**batch)

    torch.testing.assert_close(after.logits[is_real], before.logits[is_real], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_revert_is_exact(family: str) -> None:
    model = tiny_model(family)
    batch = batch_of(model)
    attributes = {path: set(vars(module)) for path, module in model.named_modules()}
    before = loss_and_gradients(model, batch)

    report = weldlm.patch(model)
    changed = sum("forward" in vars(module) for module in model.modules())
    report.revert()
    after = loss_and_gradients(model, batch)

    assert changed == len(report.kernels) > 8
    assert {path: set(vars(module)) for path, module in model.named_modules()} == attributes
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_nothing_global_changes() -> None:
    bystander, model = tiny_model("bert"), tiny_model("bert")
    batch = batch_of(model)
    before = bystander(**batch)
    code = {type(module): type(module).forward for module in model.modules()}

    weldlm.patch(model)

    assert code == {type(module): type(module).forward for module in model.modules()}
    assert type(bystander(**batch)) is type(before)
    assert torch.equal(bystander(**batch).loss, before.loss)


def test_patch_is_a_function_and_its_import_imports_no_transformers() -> None:
    program = (
        "import sys, weldlm.patching, weldlm; assert callable(weldlm.patch), weldlm.patch; "
        "assert not {'transformers', 'accelerate'} & set(sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
                         ids=["deepcopy", "pickle"])  # fmt: skip
@pytest.mark.parametrize("family", ["gpt2", "bert", "t5"])
def test_copies_are_patched_and_independent(family: str, copied: Any) -> None:
    model = tiny_model(family)
    batch = batch_of(model)
    before = model(**batch).loss
    weldlm.patch(model)
    patched = model(**batch).loss

    twin = copied(model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()

    assert torch.equal(twin(**batch).loss, patched)
    uninstall(twin)
    assert torch.equal(twin(**batch).loss, before)


def test_state_dict_and_hooks_are_untouched() -> None:
    model = tiny_model("llama")
    batch, calls = batch_of(model), []
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    norm = model.get_submodule("model.layers.0.input_layernorm")
    norm.register_forward_hook(lambda *_: calls.append("norm"))
    model.register_forward_pre_hook(lambda *_: calls.append("model"))

    weldlm.patch(model)
    model(**batch)

    assert calls == ["model", "norm"]
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_forward_keeps_its_parameters(family: str) -> None:
    model = tiny_model(family)
    before = list(inspect.signature(model.forward).parameters)

    weldlm.patch(model)

    assert list(inspect.signature(model.forward).parameters) == before


@pytest.mark.parametrize("family", [*DECODERS, "t5", "bart"])
def test_generation_is_that_before(family: str) -> None:
    model = tiny_model(family)
    batch = batch_of(model, "left")
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    before = model.generate(**inputs, **settings)

    weldlm.patch(model)

    assert torch.equal(model.generate(**inputs, **settings), before)


def test_attention_weights_are_those_before() -> None:
    model = tiny_model("bert", "eager")
    batch = batch_of(model)
    before = model(**batch, output_attentions=True)

    weldlm.patch(model)
    after = model(**batch, output_attentions=True)

    for ours, theirs in zip(after.attentions, before.attentions, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("is_reentrant", [False, True], ids=["", "reentrant"])
@pytest.mark.parametrize("family", ["llama", "bert", "t5", "bart"])
def test_gradient_checkpointing_gives_the_same_gradients(family: str, is_reentrant: bool) -> None:
    model = tiny_model(family)
    batch = batch_of(model)
    before = loss_and_gradients(model, batch)

    weldlm.patch(model)
    model.gradient_checkpointing_enable({"use_reentrant": is_reentrant})
    model.enable_input_require_grads()  # without which a reentrant one has no gradients
    model.train()
    model(**batch).loss.backward()

    after = {name: weight.grad for name, weight in model.named_parameters()}
    expected = {name: before[name] for name in after}
    assert max(relative_differences(expected, after).values()) < 1e-5


def test_report_lists_kernels_and_reasons() -> None:
    report = weldlm.patch(tiny_model("t5-v1.1"))

    text = str(report)

    assert text.splitlines()[0].startswith("T5ForConditionalGeneration, transformers 5.")
    assert "sequences: packed" in text
    assert "encoder.block.*.layer.*.SelfAttention" in text
    assert report.kernels["encoder.final_layer_norm"] == "rms_norm"
    assert report.kernels["encoder.block.0.layer.1.DenseReluDense.act"] == "gelu (tanh)"
    assert report.kernels[""] == "linear_cross_entropy"
    assert report.kept["lm_head"] == "PyTorch's GEMM"
    assert not report.kernels.keys() & report.kept.keys()


def test_verify_accepts_a_good_patch() -> None:
    model = tiny_model("gpt2")

    report = weldlm.patch(model, verify=batch_of(model))

    assert len(report.kernels) > 10
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_verify_accepts_bf16(family: str) -> None:
    model = tiny_model(family).to(torch.bfloat16)

    assert weldlm.patch(model, verify=batch_of(model)).padding == "packed"


def test_verify_reverts_a_wrong_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("gpt2")
    batch = batch_of(model)
    before = model(**batch).loss
    right = functional.layer_norm
    monkeypatch.setattr(functional, "layer_norm", lambda *given: right(*given) * (1 + 1e-4))

    with pytest.raises(ValueError, match=r"verify: \d+ results are beyond the rule, and the patch"):
        weldlm.patch(model, verify=batch)

    assert torch.equal(model(**batch).loss, before)
    assert not any("forward" in vars(module) for module in model.modules())


def test_verify_needs_labels() -> None:
    model = tiny_model("gpt2")
    batch = batch_of(model)
    del batch["labels"]

    with pytest.raises(ValueError, match="verify: the batch gives no loss"):
        weldlm.patch(model, verify=batch)


def test_second_patch_is_refused() -> None:
    model = tiny_model("gpt2")
    weldlm.patch(model)

    with pytest.raises(ValueError, match="patched already"):
        weldlm.patch(model)


def test_unknown_model_is_refused() -> None:
    with pytest.raises(ValueError, match="Sequential holds no module of transformers"):
        weldlm.patch(nn.Sequential(nn.LayerNorm(4)))


def test_unknown_version_of_a_module_is_kept_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("bert")
    batch = batch_of(model)
    attention = type(model.bert.encoder.layer[0].attention.self)
    original = attention.forward

    def forward(self: Any, hidden_states: Tensor, mask: Any = None, **options: Any) -> Any:
        options.pop("attention_mask", None)
        return original(self, hidden_states, mask, **options)

    monkeypatch.setattr(attention, "forward", forward)
    with pytest.warns(RuntimeWarning, match=r"BertSelfAttention.forward takes \(hidden_states, "):
        report = weldlm.patch(model)

    assert report.padding.startswith("padded: BertSelfAttention is kept (its forward takes")
    assert "bert.encoder.layer.0.attention.self" in report.kept
    assert report.kernels["bert.encoder.layer.0.output.LayerNorm"] == "layer_norm"
    assert model(**batch).loss.isfinite()


def test_untested_version_of_transformers_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weldlm.patching.patch_model.version", lambda _: "9.1.0")

    with pytest.warns(RuntimeWarning, match="transformers 9.1.0 is not tested with weldlm.patch"):
        weldlm.patch(tiny_model("bert"))


def test_forward_of_the_instance_is_kept() -> None:
    model = tiny_model("bert")
    norm = model.bert.embeddings.LayerNorm
    own = norm.forward = lambda x: nn.LayerNorm.forward(norm, x)

    report = weldlm.patch(model)
    report.revert()

    assert report.kept["bert.embeddings.LayerNorm"].startswith("the instance has a forward")
    assert norm.forward is own


def test_revert_refuses_a_wrapped_forward() -> None:
    model = tiny_model("bert")
    report = weldlm.patch(model)
    inner = model.forward
    model.forward = lambda *args, **kwargs: inner(*args, **kwargs)

    with pytest.raises(RuntimeError, match="the replaced forward of the model was wrapped since"):
        report.revert()

    assert "forward" in vars(model.bert)


@pytest.mark.parametrize("family", ["llama", "modernbert"])
def test_loss_counts_the_items_of_the_whole_batch(family: str) -> None:
    model = tiny_model(family)
    batch = batch_of(model) | {"num_items_in_batch": torch.tensor(50)}
    before = model(**batch).loss

    weldlm.patch(model)

    assert model(**batch).loss.item() == pytest.approx(before.item(), rel=1e-6)


def test_loss_of_the_users_own_is_kept() -> None:
    model = tiny_model("llama")
    model.loss_function = lambda logits, **_: logits.float().square().mean()
    batch = batch_of(model, lengths=(5, 5))
    before = model(**batch).loss

    weldlm.patch(model)

    assert model(**batch).loss.item() == pytest.approx(before.item(), rel=1e-5)


@pytest.mark.parametrize("label", [97, -5])
@pytest.mark.parametrize("family", ["gpt2", "bert", "t5", "bart"])
def test_label_outside_the_vocabulary_is_refused(family: str, label: int) -> None:
    model = tiny_model(family)
    batch = batch_of(model)
    batch["labels"][1, 1] = label
    weldlm.patch(model)

    with pytest.raises(ValueError, match=rf"labels hold the id {label}; expected ids from 0 to 96"):
        model(**batch)
