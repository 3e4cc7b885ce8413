"""Outputs of the shards of one batch job to one file, in the order of the input."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weldlm.atomic_file import rename_to_new, replace_file
from weldlm.job_output import JobCounts, JobFiles, require_new
from weldlm.job_record import read_record, row_places

__all__ = ["merge_outputs"]


def merge_outputs(outputs: Sequence[Path], target: Path) -> JobCounts:
    """Joins the outputs of all shards, whose records lie beside them.

    Args:
        outputs: finished, in any order.
        target: must not exist.

    Raises:
        FileNotFoundError: an output or its record is missing.
        FileExistsError: the target is there.
        ValueError: a shard is missing or there twice, or is of another job, or has not its rows.
    """
    require_new(target)
    shards = [_read_shard(path) for path in outputs]
    _check_shards(shards, outputs)
    places: list[tuple[int, int, int, int]] = []  # index, shard, offset, number of bytes
    num_failed = 0
    for number, path in enumerate(outputs):
        for index, offset, size, is_failed in row_places(path):
            places.append((index, number, offset, size))
            num_failed += is_failed
    places.sort()
    for expected, (index, number, *_) in enumerate(places):
        if index != expected:
            problem = "twice" if index < expected else "not"
            raise ValueError(
                f"row {min(index, expected)} is {problem} in the outputs, near {outputs[number]}; "
                "expected each row once; do the shard again"
            )
    draft_name = target.with_name(f"{target.name}.merged")
    with replace_file(draft_name) as draft, draft.open("wb") as merged:
        files = [path.open("rb") for path in outputs]
        try:
            for _, number, offset, size in places:
                files[number].seek(offset)
                merged.write(files[number].read(size))
        finally:
            for file in files:
                file.close()
    rename_to_new(draft_name, target)
    return JobCounts(len(places) - num_failed, num_failed)


def _read_shard(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected the output of a finished shard")
    record = JobFiles(path, path).record
    found = read_record(record)
    if "shard" not in found:
        raise FileNotFoundError(
            f"{record} does not say which shard {path.name} is; expected the file that the job "
            "left beside its output"
        )
    return found


def _check_shards(shards: Sequence[dict[str, Any]], outputs: Sequence[Path]) -> None:
    first = shards[0]
    for shard, path in zip(shards, outputs, strict=True):
        for name in {*first, *shard} - {"shard"}:
            if shard.get(name) != first.get(name):
                raise ValueError(
                    f"{path} is of a job with another {name} than {outputs[0]}; expected shards "
                    "of one job"
                )
    numbers = sorted(shard["shard"][0] for shard in shards)
    count = first["shard"][1]
    if numbers != list(range(count)) or any(shard["shard"][1] != count for shard in shards):
        missing = sorted(set(range(count)) - set(numbers))
        problem = f"{missing} are missing" if missing else f"given are {numbers}"
        raise ValueError(f"of the shards 0 to {count - 1}, {problem}; expected each once")
