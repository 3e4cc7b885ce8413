"""Bootstrap intervals and calibration: against closed forms and hand-made cases."""

import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from weldlm.evaluate import calibrate, difference, draw_reliability, interval


def test_interval_of_a_mean_is_that_of_the_normal_law() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, size=900)

    found = interval(lambda indices: float(values[indices].mean()), 900, num_draws=2_000)

    error = values.std() / math.sqrt(900)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=error / 5)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=error / 5)


def test_pairing_takes_out_what_is_hard_for_both() -> None:
    random = np.random.default_rng(2)
    hard = random.normal(0, 10, size=400)  # far more than what sets the two apart
    first, second = hard + random.normal(0.5, 1, size=400), hard

    found = difference(
        lambda indices: float(first[indices].mean()),
        lambda indices: float(second[indices].mean()),
        400,
    )

    assert 0.3 < found.low < found.value < found.high < 0.7
    assert found.p_value < 0.01


def test_models_that_are_alike_do_not_differ() -> None:
    random = np.random.default_rng(3)
    first, second = random.normal(size=400), random.normal(size=400)

    found = difference(
        lambda indices: float(first[indices].mean()),
        lambda indices: float(second[indices].mean()),
        400,
    )

    assert found.low < 0 < found.high
    assert found.p_value > 0.05


def test_one_model_against_itself_is_certain_of_nothing() -> None:
    found = difference(lambda indices: float(indices.mean()), lambda i: float(i.mean()), 9)

    assert found[:3] == (0.0, 0.0, 0.0)
    assert found.p_value == 1.0


def test_one_row_tells_nothing_of_two_models() -> None:
    assert difference(lambda _: 1.0, lambda _: 0.0, 1) == (1.0, 1.0, 1.0, 1.0)


def test_same_seed_draws_the_same() -> None:
    values = np.arange(50.0)

    def run(seed: int) -> object:
        return interval(lambda indices: float(values[indices].mean()), 50, seed=seed)

    assert run(1) == run(1)
    assert run(1) != run(2)


@pytest.mark.parametrize(("num_rows", "num_draws"), [(0, 10), (10, 0)])
def test_nothing_to_draw_is_refused(num_rows: int, num_draws: int) -> None:
    with pytest.raises(ValueError, match="expected at least one of each"):
        interval(lambda _: 0.0, num_rows, num_draws=num_draws)


def test_calibration_error_weighs_bins_by_their_rows() -> None:
    # (0.8, 0.9]: three answers, two right; (0.5, 0.6]: one answer, wrong; 1.0 belongs to the last
    found = calibrate([0.85, 0.9, 0.81, 0.6, 1.0], [True, True, False, False, True])

    filled = [(part.low, part.num_rows) for part in found.bins if part.num_rows]
    assert filled == [(0.5, 1), (0.8, 3), (0.9, 1)]
    expected = 3 / 5 * abs(2 / 3 - 2.56 / 3) + 1 / 5 * 0.6 + 0.0
    assert found.expected_error == pytest.approx(expected)


def test_reliability_diagram_has_a_bar_a_bin(tmp_path: Path) -> None:
    draw_reliability(calibrate([0.85, 0.95], [True, False]), tmp_path / "plot.svg")

    root = ElementTree.fromstring((tmp_path / "plot.svg").read_text())
    bars = [part for part in root if part.find("{http://www.w3.org/2000/svg}title") is not None]
    assert len(bars) == 10
    assert sum(float(bar.attrib["height"]) > 0 for bar in bars) == 1


def test_answers_without_confidences_are_refused() -> None:
    with pytest.raises(ValueError, match="1 confidences and 0 answers"):
        calibrate([0.5], [])
