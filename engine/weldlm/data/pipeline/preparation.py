"""From files to shards: read, clean, remove duplicates, split, encode, report.

The folder of the result appears whole, by one rename. Beside it stands a folder of the work with
cleaned texts and encoded files; a run that was killed goes on from there, and one that finds more
files than the last does only what they need. It may be removed at any time.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weldlm.data.cleaning import Tally
from weldlm.data.pipeline.cleaned_parts import CleanedParts, clean_groups, has_finished
from weldlm.data.pipeline.cleaning_pool import CleaningWay
from weldlm.data.pipeline.groups import group_files
from weldlm.data.pipeline.prepared import (
    KIND,
    TOKENIZER,
    TRAIN,
    VALID,
    VERSION,
    describe_file,
    is_prepared,
)
from weldlm.data.pipeline.report import describe_corpus
from weldlm.data.pipeline.report_page import draw_page
from weldlm.data.pipeline.selection import Selection, select_documents
from weldlm.data.pipeline.settings import DataSettings
from weldlm.data.pipeline.token_files import Encoding, TokenFile, encode_split, write_split
from weldlm.data.pipeline.vocabulary import Learner, settle_tokenizer
from weldlm.data.shards import TokenShards
from weldlm.data.sources import Sources, find_sources
from weldlm.sealed_folder import lock_folder, read_manifest, remove_drafts, replace_folder
from weldlm.tokenizer import Tokenizer
from weldlm.tokenizer.fingerprint import fingerprint

__all__ = ["Notify", "prepare_data", "work_folder"]

Notify = Callable[[str, int, int], None]  # takes a stage, how much is done, and of how much

_FORMAT = 1  # of the parts; a change of what cleaning does raises it
_REPORT, _PAGE = "report.json", "report.html"


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a run is asked for."""

    sources: Sources
    settings: DataSettings
    tokenizer: Tokenizer | Learner
    fingerprint: str | None  # of a tokenizer that is given
    record: dict[str, Any]  # of all that the result depends on but the files


def prepare_data(
    data: Sequence[str | Path],
    out: str | Path,
    settings: DataSettings,
    *,
    tokenizer: Tokenizer | Learner,
    num_workers: int | None = None,
    replace: bool = False,
    notify: Notify | None = None,
) -> dict[str, Any]:
    """Makes the corpus `out` of files and returns its report.

    Args:
        data: files, folders, folders of the package datasets, or "stdlib".
        out: folder of the corpus; one that was made with the same settings is brought up to date.
        settings: how.
        tokenizer: one to encode with, or how to learn one.
        num_workers: processes that clean; all cores where None.
        replace: make `out` anew also where it was made with other settings.
        notify: told how far the work is.

    Raises:
        BlockingIOError: another program makes this corpus.
        FileNotFoundError: a path does not exist or holds no file of a known kind.
        ModuleNotFoundError: a package that a step needs is not installed.
        ValueError: something cannot be read and `settings.on_error` is "stop", nothing is left to
            learn from, or `out` holds something else.
    """
    out = Path(out)
    own = (out, work_folder(out))
    sources = find_sources(data, include=settings.include, without=own)
    given = fingerprint(tokenizer) if isinstance(tokenizer, Tokenizer) else None
    what = tokenizer.what if isinstance(tokenizer, Learner) else f"with fingerprint {given}"
    record = {**settings.record(), "vocabulary": what}
    plan = _Plan(sources, settings, tokenizer, given, record)
    _check_out(out, plan.record, replace=replace)
    is_new = not work_folder(out).exists()
    try:
        with lock_folder(work_folder(out)):
            return _prepare(plan, out, num_workers or _num_cores(), notify, replace=replace)
    except (ValueError, ModuleNotFoundError):
        if is_new and not has_finished(work_folder(out)):  # nothing to go on from
            shutil.rmtree(work_folder(out), ignore_errors=True)
        raise


def work_folder(out: Path) -> Path:
    """The folder beside the corpus that keeps what a later run goes on from."""
    return out.with_name(f"{out.name}.work")


def _prepare(
    plan: _Plan, out: Path, num_workers: int, notify: Notify | None, *, replace: bool
) -> dict[str, Any]:
    work, settings = work_folder(out), plan.settings
    way = CleaningWay.of(settings.cleaning, is_signed=settings.is_signed)
    for folder in (work, *(path for path in work.iterdir() if path.is_dir())):
        remove_drafts(folder)
    told = notify or _stay_silent
    cleaned = clean_groups(
        group_files(plan.sources.files, _how(settings, way)),
        work,
        settings,
        way,
        num_workers=num_workers,
        progress=lambda done, total: told("cleaning", done, total),
    )
    selection = select_documents(cleaned.parts, settings, work)
    _require_text(cleaned, selection, settings)
    kept = out / TOKENIZER if is_prepared(out) and not replace else None
    tokenizer = settle_tokenizer(
        plan.tokenizer, selection, work, kept=kept, held_out=settings.held_out
    )
    name = plan.fingerprint or fingerprint(tokenizer)
    encoding = Encoding(tokenizer, name, settings.frame, settings.held_out)
    splits = _encode(selection, encoding, work / "tokens", told)
    return _publish(plan, out, cleaned, selection, tokenizer, splits)


def _how(settings: DataSettings, way: CleaningWay) -> dict[str, Any]:
    """All but the files that cleaned parts depend on."""
    return {
        **settings.cleaning_record(),
        "evaluation": way.evaluation,
        "versions": way.versions,
        "format": _FORMAT,
    }


def _encode(
    selection: Selection, encoding: Encoding, folder: Path, told: Notify
) -> dict[str, list[TokenFile]]:
    total = int(selection.is_train.sum() + selection.is_valid.sum())
    done = 0
    splits: dict[str, list[TokenFile]] = {}
    for name, flags in ((TRAIN, selection.is_train), (VALID, selection.is_valid)):
        splits[name] = []
        for file in encode_split(selection, flags, encoding, folder):
            splits[name].append(file)
            done += len(file.lengths)
            told("encoding", done, total)
    used = {file.path.stem for files in splits.values() for file in files}
    for path in folder.iterdir():
        if path.stem not in used:
            path.unlink()
    return splits


def _publish(
    plan: _Plan,
    out: Path,
    cleaned: CleanedParts,
    selection: Selection,
    tokenizer: Tokenizer,
    splits: dict[str, list[TokenFile]],
) -> dict[str, Any]:
    with replace_folder(out) as draft:
        tokenizer.save(draft / TOKENIZER)
        shards = {}
        for name, files in splits.items():
            if files:
                write_split(draft / name, files, tokenizer.vocab_size)
                shards[name] = TokenShards.open(draft / name)
        report = describe_corpus(plan.sources, cleaned, selection.duplicates, shards, plan.record)
        (draft / _REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        page = draw_page(report).encode(errors="backslashreplace")  # names may be no characters
        (draft / _PAGE).write_bytes(page)
        manifest = {
            "kind": KIND,
            "version": VERSION,
            "settings": plan.record,
            "shards": {name: part.fingerprint for name, part in shards.items()},
            "files": {name: describe_file(draft / name) for name in (TOKENIZER, _REPORT, _PAGE)},
        }
        text = json.dumps(manifest, indent=2) + "\n"
        (draft / "manifest.json").write_text(text, encoding="utf-8")
    return report


def _check_out(out: Path, record: dict[str, Any], *, replace: bool) -> None:
    if not out.exists():
        return
    if not is_prepared(out):
        if not out.is_dir() or any(out.iterdir()):
            raise FileExistsError(f"{out} holds something else; remove it or choose another folder")
        return
    before = read_manifest(out)["settings"]
    other = next((name for name in record if before.get(name) != record[name]), None)
    if other is not None and not replace:
        raise ValueError(
            f"{out} was made with {other} {json.dumps(before.get(other))}, but "
            f"{json.dumps(record[other])} is given; give the same again, another folder, or replace"
        )


def _require_text(cleaned: CleanedParts, selection: Selection, settings: DataSettings) -> None:
    if selection.is_train.any() or (selection.is_one_document and settings.held_out):
        return
    num_valid = int(selection.is_valid.sum())
    if num_valid:
        raise ValueError(
            f"held_out is {settings.held_out}, which keeps all {num_valid} documents from "
            "training; expected some to be left; lower held_out or give more documents"
        )
    steps = Tally.total(part.tally for part in cleaned.parts).steps
    removed = ", ".join(f"{name} {step.removed}" for name, step in steps.items() if step.removed)
    raise ValueError(
        f"no document is left to learn from (removed: {removed or 'none was read'}); expected at "
        "least one with text; give other data or fewer steps of cleaning"
    )


def _num_cores() -> int:
    return len(os.sched_getaffinity(0))


def _stay_silent(_stage: str, _done: int, _total: int) -> None:
    pass
