"""Which files a corpus is made of, and what each is by the ending of its name."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, NoReturn

from weldlm.data.corpus import standard_library_files

__all__ = ["STANDARD_LIBRARY", "SourceFile", "SourceKind", "Sources", "find_sources"]

SourceKind = Literal["text", "code", "html", "csv", "tsv", "jsonl", "parquet", "arrow"]

STANDARD_LIBRARY = "stdlib"  # in the place of a path

_PACKED = (".gz", ".zst")
_CODE = (
    ".py", ".pyi", ".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".cu", ".cuh", ".java", ".kt",
    ".scala", ".go", ".rs", ".js", ".jsx", ".mjs", ".ts", ".tsx", ".rb", ".php", ".cs", ".swift",
    ".m", ".lua", ".pl", ".pm", ".r", ".jl", ".hs", ".ml", ".ex", ".exs", ".erl", ".clj", ".sh",
    ".bash", ".sql", ".css", ".scss", ".tex", ".cmake", ".toml", ".yaml", ".yml", ".proto",
)  # fmt: skip
_KINDS: dict[str, SourceKind] = {
    **dict.fromkeys((".txt", ".text", ".md", ".markdown", ".rst"), "text"),
    **dict.fromkeys(_CODE, "code"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
_NEVER_PACKED = ("parquet", "arrow")
_DATASET, _SPLITS = "state.json", "dataset_dict.json"  # as the package datasets saves to the disk


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to read documents from."""

    path: Path
    name: str  # below what was given, so that the same files elsewhere have it too
    kind: SourceKind
    size: int
    changed: int  # time of the last change, in nanoseconds

    @property
    def is_prose(self) -> bool:
        """Whether an empty file tells that something went wrong; an empty module may be meant."""
        return self.kind != "code"


@dataclass(frozen=True, slots=True)
class Sources:
    """The files of a corpus in their order, and what lies beside them."""

    files: list[SourceFile]
    left_out: dict[str, int]  # files of unknown kinds, by ending

    @property
    def num_bytes(self) -> int:
        return sum(file.size for file in self.files)


def find_sources(
    data: Sequence[str | Path], *, include: Sequence[str] = (), without: Sequence[Path] = ()
) -> Sources:
    """Lists the files below paths.

    Args:
        data: files, folders, folders that the package datasets saved, or "stdlib".
        include: patterns such as "*.log", one of which the name of a file in a folder must match;
            those of unknown endings are read as text.
        without: folders that are no sources wherever they lie.

    Raises:
        FileNotFoundError: a path does not exist, or there is no file of a known kind.
        ValueError: a file is given twice, or of no known kind.
    """
    left_out: Counter[str] = Counter()
    files: list[SourceFile] = []
    passed_over = {folder.resolve() for folder in without}
    for path in data:
        found = sorted(_files_of(path, include, passed_over, left_out), key=lambda file: file.name)
        if not found:
            raise FileNotFoundError(
                f"{path} holds no file to read; expected files named {_known()}; give another "
                "folder, or include with the pattern of their names"
            )
        files += found
    _refuse_twice(files)
    return Sources(files, dict(sorted(left_out.items())))


def _files_of(
    path: str | Path, include: Sequence[str], passed_over: set[Path], left_out: Counter[str]
) -> Iterator[SourceFile]:
    if str(path) == STANDARD_LIBRARY:
        root, files = standard_library_files()
        for file in files:
            yield _source(file, f"{STANDARD_LIBRARY}/{file.relative_to(root).as_posix()}", "code")
        return
    path = Path(path)
    if path.is_dir():
        yield from _files_below(path, include, passed_over, left_out)
    elif not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a file or a folder of them")
    else:
        kind = _kind_of(path)
        if kind is None:
            raise ValueError(
                f"{path} is of no known kind; expected a name in {_known()}; rename it, or give "
                "its folder and include with the pattern of its name"
            )
        yield _source(path, path.name, kind)


def _files_below(
    folder: Path, include: Sequence[str], passed_over: set[Path], left_out: Counter[str]
) -> Iterator[SourceFile]:
    _refuse_splits(folder)
    is_dataset = (folder / _DATASET).is_file()
    base = folder.resolve().name
    for file in _dataset_files(folder) if is_dataset else _walk(folder, passed_over):
        kind = _kind_of(file)
        is_wanted = not include or any(fnmatch(file.name, pattern) for pattern in include)
        if is_wanted and (kind is not None or include):
            name = f"{base}/{file.relative_to(folder).as_posix()}"
            yield _source(file, name, kind or "text")
        else:
            left_out[file.suffix or file.name] += 1


def _walk(folder: Path, passed_over: set[Path]) -> Iterator[Path]:
    """The files of a folder, but hidden ones and what lies in hidden folders or `passed_over`."""

    def refuse(error: OSError) -> NoReturn:
        raise error  # a folder that cannot be read is not left out silently

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and Path(place, name).resolve() not in passed_over
        ]
        for name in names:
            file = Path(place, name)
            if not name.startswith(".") and file.is_file():
                yield file


def _dataset_files(folder: Path) -> list[Path]:
    """The files of a dataset in their order, as its state lists them."""
    path = folder / _DATASET
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        names = [entry["filename"] for entry in state["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error!r}); expected the state of a dataset; save it again"
        ) from error
    return [folder / name for name in names]


def _refuse_splits(folder: Path) -> None:
    path = folder / _SPLITS
    if path.is_file():
        splits = ", ".join(str(state.parent) for state in sorted(folder.glob(f"*/{_DATASET}")))
        raise ValueError(
            f"{folder} is a dataset with several splits; expected one, because a test split is "
            f"not to train on; give any of {splits}"
        )


def _kind_of(path: Path) -> SourceKind | None:
    suffix = path.suffix.lower()
    if suffix not in _PACKED:
        return _KINDS.get(suffix)
    kind = _KINDS.get(path.with_suffix("").suffix.lower())
    return None if kind in _NEVER_PACKED else kind


def _source(path: Path, name: str, kind: SourceKind) -> SourceFile:
    state = path.stat()
    return SourceFile(path, name, kind, state.st_size, state.st_mtime_ns)


def _refuse_twice(files: Sequence[SourceFile]) -> None:
    counts = Counter(file.path.resolve() for file in files)
    twice = next((path for path, count in counts.items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is given twice; expected each file once; leave one out")


def _known() -> str:
    prose = [suffix for suffix, kind in _KINDS.items() if kind != "code"]
    return f"{', '.join(prose)}, .py and other code, some with {' or '.join(_PACKED)} behind it"
