"""Which rows are kept from learning hangs on their content alone, with a share of every label."""

from collections import Counter

import pytest

from weldlm.finetune.row_split import RowSplit, split_rows

ROWS = [f"{'abc'[number % 7 % 3]} {number}" for number in range(700)]


def split(rows: list[str], *, heldout: float = 0.2) -> RowSplit:
    return split_rows(
        rows, content=lambda row: row, label=lambda row: row[0], valid=0.1, heldout=heldout
    )


def test_every_label_has_its_share() -> None:
    parts = split(ROWS)

    counts = [Counter(row[0] for row in part) for part in (parts.heldout, parts.valid)]
    assert counts == [{"a": 60, "b": 40, "c": 40}, {"a": 30, "b": 20, "c": 20}]


def test_parts_are_disjoint_and_keep_the_order() -> None:
    parts = split(ROWS)

    together = parts.train + parts.valid + parts.heldout
    assert sorted(together) == sorted(ROWS)
    assert parts.train == [row for row in ROWS if row in set(parts.train)]


def test_the_order_of_rows_does_not_decide() -> None:
    assert set(split(ROWS).heldout) == set(split(ROWS[::-1]).heldout)


def test_rows_of_one_content_stay_together() -> None:
    parts = split_rows(
        ROWS, content=lambda row: row[-2:], label=lambda _: "", valid=0.1, heldout=0.2
    )

    contents = [{row[-2:] for row in part} for part in (parts.train, parts.valid, parts.heldout)]
    assert not contents[0] & contents[1] | contents[0] & contents[2] | contents[1] & contents[2]


@pytest.mark.parametrize(("heldout", "sizes"), [(0.2, (2, 1, 1)), (0.0, (3, 1, 0))])
def test_few_rows_still_make_all_parts(heldout: float, sizes: tuple[int, int, int]) -> None:
    parts = split(["a 1", "a 2", "b 1", "b 2"], heldout=heldout)

    assert (len(parts.train), len(parts.valid), len(parts.heldout)) == sizes


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="holds 2 different rows; expected at least 3"):
        split(["a 1", "a 2", "a 1"])
