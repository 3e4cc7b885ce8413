"""`weldlm bench generate`: what is generated, the floor that memory sets, and reports."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.tiny_models import tiny_config, tiny_model
from weldlm.batch_limits import BatchLimits
from weldlm.bench import (
    BenchReport,
    GenerationBench,
    Measurement,
    Workload,
    as_csv,
    as_json,
    as_markdown,
    bench_generation,
    decode_workload,
    generation_bench,
    mixed_workload,
    prefill_workload,
)
from weldlm.bench.roofline import bytes_of_decoding, read_bandwidth, weight_bytes
from weldlm.bench.sides import Ids, WeldlmSide
from weldlm.cli import main
from weldlm.generation import generate
from weldlm.sampling_settings import SamplingSettings

SMALL = Workload(name="small", prompts=((5, 7, 11), (3,)), max_tokens=(4, 6))
LIMITS = BatchLimits(batch_size=2)


def measurement(**changes: Any) -> Measurement:
    known: dict[str, Any] = {
        "workload": SMALL,
        "side": "weldlm",
        "seconds": (2.0, 4.0, 1.0),
        "ratio": None,
        "floor_seconds": 0.5,
    }
    return Measurement(**{**known, **changes})


@pytest.fixture(name="report")
def small_report() -> BenchReport:
    peer = measurement(side="peer", seconds=(4.0, 4.0, 5.0), ratio=2.0, floor_seconds=None)
    bench = GenerationBench(
        measurements=(measurement(), peer), read_bandwidth=12.5e9, has_equal_ids=True
    )
    return BenchReport(
        command="weldlm bench generate",
        model="tiny",
        num_parameters=1_234,
        dtype="float32",
        device="cpu",
        batch_size=2,
        bench=bench,
    )


def test_mixed_rows_are_those_of_nano_vllm() -> None:
    """The totals of its bench.py, of which the ids are drawn between the lengths."""
    workload = mixed_workload(256, (100, 1_024), vocab_size=151_936)

    assert workload.num_prompt_tokens == 142_827
    assert workload.num_new_tokens == 133_966
    assert max(max(prompt) for prompt in workload.prompts) == 10_000


def test_ids_are_inside_a_small_vocabulary() -> None:
    workload = mixed_workload(4, (5, 9), vocab_size=97)

    assert max(max(prompt) for prompt in workload.prompts) < 97


def test_rows_of_llama_bench_count_one_side() -> None:
    prefill, decode = prefill_workload(7, vocab_size=97), decode_workload(9, vocab_size=97)

    assert (prefill.num_counted, prefill.max_tokens) == (7, (1,))
    assert (decode.num_counted, len(decode.prompts[0])) == (9, 1)


def test_decoding_reads_weights_each_step_and_what_came_before_each_token() -> None:
    """2 layers of 4 heads of 8 numbers: 512 bytes of fp32 keys and values a token."""
    num_bytes = bytes_of_decoding(
        tiny_config(), SMALL, batch_size=2, weight_bytes=1_000, cache_dtype=torch.float32
    )

    assert num_bytes == 6 * 1_000 + 512 * ((3 + 4 + 5 + 6) + (1 + 2 + 3 + 4 + 5 + 6))


def test_a_window_and_a_small_batch_change_what_is_read() -> None:
    """One layer sees three tokens, the other all; ten tokens one by one take ten steps."""
    config = tiny_config("llama-tiny", window=3, window_pattern=(True, False))

    num_bytes = bytes_of_decoding(
        config, SMALL, batch_size=1, weight_bytes=1_000, cache_dtype=torch.float32
    )

    whole, seen = (3 + 4 + 5 + 6) + (1 + 2 + 3 + 4 + 5 + 6), 4 * 3 + (1 + 2 + 3 + 3 + 3 + 3)
    assert num_bytes == 10 * 1_000 + 128 * (whole + seen)


def test_a_step_reads_all_weights_but_tables_of_rows() -> None:
    tied, untied = tiny_model(), tiny_model("llama-tiny", tie_embeddings=False)

    positions, tokens = 64 * 32 * 4, 97 * 32 * 4
    assert weight_bytes(tied) == sum(w.nbytes for w in tied.parameters()) - positions
    assert weight_bytes(untied) == sum(w.nbytes for w in untied.parameters()) - tokens


def test_memory_is_read_at_a_speed_of_this_world() -> None:
    assert 1e8 < read_bandwidth("cpu", num_bytes=64 << 20) < 1e13


def test_all_sides_do_the_same_work() -> None:
    pytest.importorskip("transformers")
    reports: list[tuple[int, int]] = []

    found = bench_generation(
        tiny_model(vocab_size=300),
        [SMALL],
        limits=LIMITS,
        repetitions=1,
        has_peer=True,
        report=lambda done, all_: reports.append((done, all_)),
    )

    assert found.has_equal_ids
    sides = [measured.side for measured in found.measurements]
    assert sides == ["weldlm", "transformers generate", "transformers generate_batch"]
    first, *others = found.measurements
    for other in others:
        assert other.ratio == pytest.approx(other.seconds[0] / first.seconds[0])
    assert reports == [(1, 3), (2, 3), (3, 3)]


def test_ids_are_those_of_generate() -> None:
    ids, seconds = WeldlmSide(tiny_model(), BatchLimits(max_length=16)).generate(SMALL)

    settings = [SamplingSettings(max_tokens=n, ignore_eos=True) for n in SMALL.max_tokens]
    expected = [
        generate(tiny_model(), None, [prompt], asked)[0].ids
        for prompt, asked in zip(SMALL.prompts, settings, strict=True)
    ]
    assert ids == expected
    assert seconds > 0


def test_sides_that_disagree_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(WeldlmSide):
        name = "other"

        def generate(self, workload: Workload) -> tuple[Ids, float]:
            ids, seconds = super().generate(workload)
            return [tuple(97 - token_id for token_id in row) for row in ids], seconds

    monkeypatch.setattr(generation_bench, "transformers_model", lambda model: model)
    monkeypatch.setattr(generation_bench, "StaticPeer", lambda model, _: Other(model, LIMITS))
    monkeypatch.setattr(generation_bench, "ContinuousPeer", WeldlmSide)

    with pytest.raises(RuntimeError, match="other and weldlm chose other tokens"):
        bench_generation(tiny_model(), [SMALL], limits=LIMITS, has_peer=True)


def test_numbers_are_those_of_the_median_round() -> None:
    measured = measurement()

    assert measured.tokens_per_second == 5.0
    assert (measured.slowest, measured.fastest) == (2.5, 10.0)
    assert measured.roofline_share == 0.25


def test_reports_say_the_same_in_every_form(report: BenchReport) -> None:
    found = json.loads(as_json(report))
    lines = list(csv.DictReader(io.StringIO(as_csv(report))))
    page = as_markdown(report)

    assert [row["tokens_per_second"] for row in found["rows"]] == [5.0, 2.5]
    assert [float(line["tokens_per_second"]) for line in lines] == [5.0, 2.5]
    assert found["read_gigabytes_per_second"] == 12.5
    assert "| small | weldlm | 5.0 | 2.5-10.0 | 25.0% | - |" in page
    assert "| small | peer | 2.5 | 2.0-2.5 | - | 2.00 |" in page
    assert "All sides gave the same greedy ids" in page


def test_the_command_writes_every_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = [str(tmp_path / f"out.{form}") for form in ("json", "csv", "md")]
    options = ["--preset", "gpt2-tiny", "--only", "tg", "--tg", "3", "--only", "pp", "--pp", "5"]

    with pytest.raises(SystemExit) as exit_:
        main(["bench", "generate", *options, "-r", "1", *[x for o in outputs for x in ("-o", o)]])

    assert exit_.value.code == 0
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [(row["work"], row["num_new_tokens"]) for row in rows] == [("pp5", 1), ("tg3", 3)]
    assert (tmp_path / "out.csv").read_text().count("\n") == 3
    assert "| tg3 | weldlm |" in (tmp_path / "out.md").read_text()
    assert "roofline" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--preset bert-tiny", "bert-tiny is no decoder"),
        (
            "--preset gpt2-tiny --only tg --tg 600",
            "context_length 512; lower lengths, pp or tg",
        ),
        ("--preset gpt2-tiny -o x.txt", "x.txt is no output; expected a name in .json, .csv, .md"),
        ("--preset gpt2-tiny --lengths 9 5", "--lengths is (9, 5); expected two numbers"),
        ("--preset gpt2-tiny --model x", "give --model or --preset, not both"),
        ("--preset gpt2-tiny -r 0", "is 0; expected at least 1"),
    ],
)
def test_what_cannot_be_timed_is_refused(
    capsys: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["bench", "generate", *options.split()])

    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert message in error
    assert error.count("\n") == 1
