"""How programs share rows."""

import pytest
import torch
import triton

from weldlm_kernels import row_tiles
from weldlm_kernels.row_tiles import COLUMN_TILE, num_programs, row_tile

DEVICE = torch.device("cpu")


@pytest.fixture(autouse=True)
def multiprocessors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tiles, "num_multiprocessors", lambda _: 132)


@pytest.mark.parametrize("hidden_size", [8193, 65536, 2**20])
def test_partial_sums_of_wide_rows_take_no_more_than_the_resident_programs(
    hidden_size: int,
) -> None:
    of_column = num_programs(4096, hidden_size, COLUMN_TILE, DEVICE)

    num_tiles = triton.cdiv(hidden_size, COLUMN_TILE.columns)
    assert of_column >= 1
    assert of_column == 1 or of_column * num_tiles <= 132 * 16 // COLUMN_TILE.warps


@pytest.mark.parametrize(("rows", "expected"), [(1, 1), (8, 1), (9, 2), (10**6, 528)])
def test_no_program_is_without_rows(rows: int, expected: int) -> None:
    assert num_programs(rows, 128, row_tile(128), DEVICE) == expected
