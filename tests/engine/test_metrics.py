"""metrics.jsonl of a resumed run goes on where the checkpoint stands."""

import json
from pathlib import Path

import pytest

from weldlm.callbacks import EvalReport, StepReport
from weldlm.metrics import MetricsFile


def step_report(step: int) -> StepReport:
    return StepReport(
        step=step,
        num_steps=9,
        loss=1 / 3,
        lr=1e-3,
        grad_norm=0.5,
        tokens=step * 48,
        tokens_per_second=1234.5678,
        elapsed=0.123456,
        step_seconds=0.01,
    )


def write(path: Path, *, steps: range, evaluated: list[int]) -> None:
    file = MetricsFile(path, step=steps.start - 1, evaluated_step=steps.start - 1)
    for step in steps:
        file.add_step(step_report(step))
    for step in evaluated:
        file.add_eval(EvalReport(step, 2.5, None, 77))
    file.close()


def test_lines_hold_what_was_reported(tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", steps=range(1, 2), evaluated=[1])

    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()

    assert [json.loads(line) for line in lines] == [
        {
            "step": 1,
            "loss": 1 / 3,
            "lr": 1e-3,
            "grad_norm": 0.5,
            "tokens": 48,
            "tokens_per_second": 1234.6,
            "elapsed": 0.1235,
            "data_seconds": 0.0,
            "padding_share": 0.0,
            "peak_memory_gib": 0.0,
        },
        {"step": 1, "valid_loss": 2.5, "valid_bits_per_byte": None},
    ]


@pytest.mark.parametrize(
    ("evaluated_step", "kept"),
    [(0, [1, 2, 3]), (3, [1, 2, 3, 3])],
    ids=["validation was broken off", "validation was completed"],
)
def test_lines_beyond_the_checkpoint_are_cut(
    tmp_path: Path, evaluated_step: int, kept: list[int]
) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, steps=range(1, 6), evaluated=[3, 5])

    MetricsFile(path, step=3, evaluated_step=evaluated_step).close()

    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == kept


@pytest.mark.parametrize(
    "tail", ['{"step": 2, "lo', "\0\0\0", "[]\n"], ids=["cut", "zeros", "list"]
)
def test_unfinished_last_line_is_dropped(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, steps=range(1, 3), evaluated=[])
    whole = path.read_text()
    path.write_text(whole + tail)

    MetricsFile(path, step=5, evaluated_step=5).close()

    assert path.read_text() == whole


def test_a_file_that_is_not_text_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n\xff\n')

    with pytest.raises(
        ValueError, match=r"metrics.jsonl is not UTF-8 \(byte 12\); .* or remove it"
    ):
        MetricsFile(path, step=1, evaluated_step=1)

    assert path.read_bytes() == b'{"step": 1}\n\xff\n'
