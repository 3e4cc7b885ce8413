"""The loss curve holds a point for every finite loss."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from weldlm.loss_curve import draw_loss_curve

SVG = "{http://www.w3.org/2000/svg}"


def write_metrics(path: Path, rows: list[dict[str, float]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_curve_falls_from_the_upper_left_to_the_lower_right(tmp_path: Path) -> None:
    rows = [{"step": 1, "loss": 4.0}, {"step": 5, "valid_loss": 3.0}, {"step": 9, "loss": 2.0}]
    metrics = write_metrics(tmp_path / "metrics.jsonl", rows)

    draw_loss_curve(metrics, tmp_path / "loss.svg")

    tree = ElementTree.parse(tmp_path / "loss.svg")
    training = tree.findall(f"{SVG}polyline")[0].attrib["points"]
    assert training == "64.0,40.0 704.0,352.0"


def test_losses_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    rows = [{"step": 1, "loss": 4.0}, {"step": 2, "loss": float("nan")}]
    metrics = write_metrics(tmp_path / "metrics.jsonl", rows)

    draw_loss_curve(metrics, tmp_path / "loss.svg")

    assert len(ElementTree.parse(tmp_path / "loss.svg").findall(f".//{SVG}circle")) == 1


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    metrics = write_metrics(tmp_path / "metrics.jsonl", [])

    with pytest.raises(ValueError, match="holds no finite loss"):
        draw_loss_curve(metrics, tmp_path / "loss.svg")


@pytest.mark.parametrize(
    "line", ['{"st', "[]", "3", '{"loss": 2.0}', '{"step": 2, "loss": "x"}'], ids=str
)
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, line: str) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 4.0}\n' + line)

    with pytest.raises(
        ValueError, match=r"metrics.jsonl is damaged \(.*\); expected JSON lines; mend"
    ):
        draw_loss_curve(tmp_path / "metrics.jsonl", tmp_path / "loss.svg")

    assert not (tmp_path / "loss.svg").exists()
