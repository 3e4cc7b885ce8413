"""A corpus is what its files are, however often its making was cut off and begun again."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.prepared_texts import LEARNER, contents, prepare, write_texts
from weldlm.data import TokenShards
from weldlm.data.cleaning import CleanSettings
from weldlm.data.pipeline import is_prepared, open_prepared, work_folder
from weldlm.sealed_folder import lock_folder
from weldlm.tokenizer import Tokenizer


@pytest.fixture(name="folder")
def folder_with_texts(tmp_path: Path) -> Path:
    write_texts(tmp_path / "texts")
    return tmp_path


def texts_of(shards: TokenShards | None, tokenizer: Tokenizer) -> list[str]:
    assert shards is not None
    ids = [shards.document(place) for place in range(shards.num_documents)]
    return tokenizer.decode_batch(ids, skip_special_tokens=True)


def both_sides(folder: Path) -> tuple[list[str], list[str]]:
    corpus = open_prepared(folder / "corpus", verify=True).corpus
    train, valid = (texts_of(side, corpus.tokenizer) for side in (corpus.train, corpus.valid))
    return train, valid


def program(folder: Path, kill_at: int) -> int:
    command = [sys.executable, "-m", "tests.engine.killed_preparation", folder, kill_at]
    return subprocess.run(list(map(str, command)), check=False).returncode


def test_every_text_is_learned_from_or_held_out_once(folder: Path) -> None:
    report = prepare(folder)

    train, valid = both_sides(folder)
    written = {path.read_text() for path in (folder / "texts").iterdir()}
    assert sorted(train + valid) == sorted(written)
    assert 0 < len(valid) < len(train)
    assert report["steps"]["exact_duplicates"]["removed"] == 60 - len(written)
    assert report["splits"]["train"]["bytes"] == sum(map(len, train))
    assert sum(row["documents"] for row in report["lengths"]) == len(written)


def test_duplicates_stay_where_asked(folder: Path) -> None:
    prepare(folder, duplicates="keep")

    assert sum(map(len, both_sides(folder))) == 60


def test_more_texts_leave_each_on_its_side(folder: Path) -> None:
    prepare(folder)
    train, valid = both_sides(folder)
    write_texts(folder / "texts", range(60, 90))

    prepare(folder)

    more_train, more_valid = both_sides(folder)
    assert set(train) < set(more_train)
    assert set(valid) < set(more_valid)


def test_more_texts_are_the_only_ones_that_are_cleaned(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weldlm.data.pipeline.groups._END_BYTES", 3_000)
    prepare(folder)
    parts = work_folder(folder / "corpus") / "parts"
    before = {path.name: path.stat().st_mtime_ns for path in parts.iterdir()}
    (folder / "texts" / "zzz.txt").write_text("one more")

    prepare(folder)

    after = {path.name: path.stat().st_mtime_ns for path in parts.iterdir()}
    assert len(before) > 5
    assert len(after.items() - before.items()) <= 2  # of one group
    assert "one more" in [text for side in both_sides(folder) for text in side]


def test_grown_corpus_is_that_of_all_texts(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    prepare(folder)
    write_texts(folder / "texts", range(60, 90))
    other = tmp_path_factory.mktemp("other")
    write_texts(other / "texts", range(90))

    prepare(folder)
    prepare(other)

    assert contents(folder / "corpus") == contents(other / "corpus")


def test_texts_that_are_gone_are_gone(folder: Path) -> None:
    prepare(folder)
    gone = (folder / "texts" / "000.txt").read_text()
    (folder / "texts" / "000.txt").unlink()

    prepare(folder)

    assert gone not in [text for side in both_sides(folder) for text in side]


def test_vocabulary_stays_when_the_corpus_grows(folder: Path) -> None:
    prepare(folder, tokenizer=LEARNER)
    before = (folder / "corpus" / "tokenizer.json").read_bytes()
    (folder / "texts" / "new.txt").write_text("entirely new words " * 999)

    prepare(folder, tokenizer=LEARNER)

    assert (folder / "corpus" / "tokenizer.json").read_bytes() == before


def test_work_may_be_removed(folder: Path) -> None:
    prepare(folder)
    before = contents(folder / "corpus")
    shutil.rmtree(work_folder(folder / "corpus"))

    prepare(folder)

    assert contents(folder / "corpus") == before


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param((4, 13, 24), id="3-kills"),
        pytest.param((1, 2, 3, 4, 4, 4, 5, 5, 6, 8), id="10-kills", marks=pytest.mark.slow),
    ],
)
def test_killed_preparation_ends_as_if_it_had_not_been(
    tmp_path: Path, kills: tuple[int, ...]
) -> None:
    write_texts(tmp_path / "whole" / "texts")
    write_texts(tmp_path / "killed" / "texts")
    prepare(tmp_path / "whole")

    codes = [program(tmp_path / "killed", kill_at) for kill_at in kills]
    is_there = is_prepared(tmp_path / "killed" / "corpus")
    prepare(tmp_path / "killed")

    assert codes == [-signal.SIGKILL] * len(kills)
    assert not is_there
    assert contents(tmp_path / "killed" / "corpus") == contents(tmp_path / "whole" / "corpus")


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_what_cannot_be_read_stops_or_is_counted(folder: Path, on_error: str) -> None:
    bad = folder / "texts" / "050.txt"
    bad.write_bytes(b"fine\nb\xe4d\n")

    if on_error == "stop":
        with pytest.raises(ValueError, match=r"050\.txt:2: the line is not UTF-8"):
            prepare(folder)
        assert [path.name for path in folder.iterdir()] == ["texts"]
    else:
        report = prepare(folder, on_error="skip")
        assert report["sources"]["bad"] == 1
        assert report["sources"]["first_bad"][0]["place"] == f"{bad}:2"


def test_what_was_skipped_once_is_not_skipped_silently_later(folder: Path) -> None:
    (folder / "texts" / "050.txt").write_bytes(b"b\xe4d\n")
    prepare(folder, on_error="skip")

    with pytest.raises(ValueError, match=r"050\.txt:1"):
        prepare(folder)


def test_other_settings_need_another_folder(folder: Path) -> None:
    prepare(folder)

    with pytest.raises(ValueError, match=r"was made with held_out 0\.2, but 0\.3 is given"):
        prepare(folder, held_out=0.3)

    prepare(folder, held_out=0.3, replace=True)
    assert open_prepared(folder / "corpus").manifest["settings"]["held_out"] == 0.3


def test_folder_of_something_else_is_left_alone(folder: Path) -> None:
    (folder / "corpus").mkdir()
    (folder / "corpus" / "mine.txt").write_text("mine")

    with pytest.raises(FileExistsError, match="holds something else"):
        prepare(folder)

    assert (folder / "corpus" / "mine.txt").read_text() == "mine"


def test_a_corpus_is_no_source_of_itself(folder: Path) -> None:
    prepare(folder, data=".")
    before = contents(folder / "corpus")

    prepare(folder, data=".")

    assert contents(folder / "corpus") == before


def test_two_programs_do_not_make_one_corpus(folder: Path) -> None:
    with (
        lock_folder(work_folder(folder / "corpus")),
        pytest.raises(BlockingIOError, match="in use by another program"),
    ):
        prepare(folder)


@pytest.mark.parametrize("name", ["report.json", "tokenizer.json", "train/tokens-00000.bin"])
def test_damage_is_found(folder: Path, name: str) -> None:
    prepare(folder)
    path = folder / "corpus" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    with pytest.raises(ValueError, match="damaged"):
        open_prepared(folder / "corpus", verify=True)


def test_damage_of_a_kept_file_does_not_spread(folder: Path) -> None:
    prepare(folder)
    before = contents(folder / "corpus")
    kept = max(
        (work_folder(folder / "corpus") / "tokens").glob("*.bin"), key=lambda p: p.stat().st_size
    )
    data = bytearray(kept.read_bytes())
    data[0] ^= 1
    kept.unlink()
    kept.write_bytes(data)

    with pytest.raises(ValueError, match="was damaged; it is removed"):
        prepare(folder)

    assert contents(folder / "corpus") == before
    prepare(folder)
    assert contents(folder / "corpus") == before


def test_one_document_is_cut_near_its_end(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    whole = "".join(f"line {number}\n" for number in range(100))
    (tmp_path / "texts" / "a.txt").write_text(whole)

    prepare(tmp_path)

    train, valid = both_sides(tmp_path)
    assert [*train, *valid] == [train[0], valid[0]]
    assert train[0] + valid[0] == whole
    assert 0.7 < len(train[0]) / len(whole) < 0.9


def test_nothing_to_learn_from_is_refused(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("  \n")

    with pytest.raises(ValueError, match=r"no document is left to learn from \(removed: empty 1\)"):
        prepare(tmp_path)


def test_a_lost_record_of_a_group_costs_reading_only(folder: Path) -> None:
    prepare(folder)
    before = contents(folder / "corpus")
    for path in (work_folder(folder / "corpus") / "groups").iterdir():
        path.unlink()

    prepare(folder)

    assert contents(folder / "corpus") == before


def test_processes_make_what_one_makes(folder: Path) -> None:
    prepare(folder)
    before = contents(folder / "corpus")
    shutil.rmtree(work_folder(folder / "corpus"))

    prepare(folder, num_workers=2)

    assert contents(folder / "corpus") == before


def test_an_evaluation_set_that_changes_is_looked_for_again(folder: Path) -> None:
    texts = {path.read_text() for path in (folder / "texts").iterdir()}
    evaluation = folder / "questions.txt"
    evaluation.write_text("nothing of the kind stands in any of these texts\n")
    cleaning = CleanSettings(evaluation=(str(evaluation),), overlap=4)
    prepare(folder, cleaning=cleaning)
    evaluation.write_text((folder / "texts" / "000.txt").read_text())

    report = prepare(folder, cleaning=cleaning)

    known = {(folder / "texts" / "000.txt").read_text()}
    assert {text for side in both_sides(folder) for text in side} == texts - known
    assert report["steps"]["contamination"]["removed"] == 1
    assert report["steps"]["contamination"]["samples"][0]["name"] == "texts/000.txt"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    words = "some words that are the text of a row " * 60
    peaks = []
    for num_bytes in (40_000_000, 240_000_000):
        with (tmp_path / "texts" / "rows.jsonl").open("w") as file:
            for number in range(num_bytes // len(words)):
                file.write(json.dumps({"text": f"{number} {words}"}) + "\n")
            file.write("x" * 50_000_000 + "\n")
        command = [sys.executable, "-m", "tests.engine.measured_preparation", str(tmp_path)]
        shown = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(shown.stdout))

    assert peaks[1] < peaks[0] * 1.3
    assert peaks[1] < 600 << 20
