"""What a model costs: against built models, PyTorch's own count of operations, and meters."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.engine.tiny_models import tiny_config
from weldlm import cost
from weldlm.cli import main
from weldlm.cost import measure_rates, model_cost, read_energy
from weldlm.heads import HEADS, language_head
from weldlm.packing import PackedBatch
from weldlm.quantization import quantize_model
from weldlm.weights import save_quantized
from weldlm_kernels import use_backend

PRESETS = ["gpt2-tiny", "llama-tiny", "bert-base", "t5-small"]


def config_of(name: str, **changes: Any) -> Any:
    if name == "t5-small":
        changes |= {"num_encoder_layers": 2, "decoder_start_id": 0}
    return tiny_config(name, **changes)


@pytest.mark.parametrize("name", PRESETS)
def test_parts_add_up_to_the_model(name: str) -> None:
    config = config_of(name)

    found = model_cost(config, length=32, rows=2)

    model = HEADS[language_head(config)](config)
    total = sum(weight.numel() for weight in model.parameters())
    assert found.num_parameters == total == sum(found.parameters.values())
    assert found.parameters["embedding"] >= config.vocab_size * config.hidden_size
    assert found.weight_bytes["float32"] == 4 * total
    assert (not found.cache_bytes_per_token) == (name == "bert-base")


def test_operations_are_those_that_pytorch_counts() -> None:
    # full attention, which the plain path computes whole
    config = config_of("bert-base", hidden_size=128, head_dim=32, intermediate_size=512)
    model = HEADS[language_head(config)](config)
    batch = PackedBatch.from_sequences([[1] * 64])

    with use_backend("reference"), FlopCounterMode(display=False) as counter:
        model(batch, torch.ones(64, dtype=torch.int64))

    found = model_cost(config, length=64, rows=1)
    assert found.flops_forward * 64 == pytest.approx(counter.get_total_flops(), rel=0.03)
    assert found.flops_training == pytest.approx(3 * found.flops_forward, rel=1e-4)


@pytest.mark.parametrize("weight_format", ["int8", "int4"])
@pytest.mark.parametrize("name", ["gpt2-tiny", "llama-tiny"])
def test_quantized_size_is_that_of_the_quantized_folder(
    name: str, weight_format: Any, tmp_path: Path
) -> None:
    config = tiny_config(name, intermediate_size=64, vocab_size=500)
    found = model_cost(config, length=32, rows=1)

    model = quantize_model(HEADS["causal_lm"](config), weight_format)
    save_quantized(model, tmp_path)

    # beside the tensors there is their header
    size = (tmp_path / "model.safetensors").stat().st_size
    assert found.weight_bytes[weight_format] == pytest.approx(size, rel=0.12)
    assert found.weight_bytes[weight_format] < size


@pytest.mark.parametrize("name", PRESETS)
def test_rates_are_measured(name: str) -> None:
    rates = measure_rates(
        config_of(name), length=16, rows=2, device="cpu", dtype="float32", seconds=0.01
    )

    assert rates.training > 0
    assert (rates.generation is None) == (name == "bert-base")


def test_energy_is_read_of_every_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, energy in (("intel-rapl:0", 2_000_000), ("intel-rapl:1", 500_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{energy}\n")
    (tmp_path / "intel-rapl:0:0").mkdir()  # a part of the first
    (tmp_path / "intel-rapl:0:0" / "energy_uj").write_text("77\n")
    monkeypatch.setattr(cost, "_RAPL", tmp_path)

    assert read_energy() == 2.5


def test_machine_without_a_meter_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "_RAPL", tmp_path)

    assert read_energy() is None


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(["cost", *(str(argument) for argument in arguments)])
    return int(exit_.value.code or 0)


def test_time_and_energy_follow_from_the_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = cost.Rates(training=1e6, generation=100.0, watts=None)
    monkeypatch.setattr("weldlm.cost.measure_rates", lambda *_, **__: rates)

    code = run("gpt2-tiny", "--tokens", 3.6e9, "--watts", 50, "--json")

    estimate = json.loads(capsys.readouterr().out)["estimate"]
    assert code == 0
    assert estimate["training"] == pytest.approx({"hours": 1.0, "kwh": 0.05})
    assert estimate["generation"]["hours"] == pytest.approx(1e4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "nowhere"),
        (("gpt2-tiny", "--tokens", 0), "--tokens is 0; expected a finite number above 0"),
        (("gpt2-tiny", "--watts", "nan"), "--watts is nan"),
        (("gpt2-tiny", "--length", 0), "--length is 0"),
        (("gpt2-tiny", "--no-measure", "--length", 10**6), "--length is 1000000; expected 1 to"),
        (("gpt2-tiny", "--length", 100_000), "--length is 100000; expected 1 to"),
    ],
)
def test_wrong_requests_are_one_line(
    arguments: tuple[object, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
