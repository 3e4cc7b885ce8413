"""Documents from files: text, JSON lines, folders, and the source of Python's standard library.

The standard library is the corpus that every machine has: it needs no network and no choice.
"""

import hashlib
import os
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from weldlm.text_file import decode_text, parse_json, require_whole_characters

__all__ = [
    "Document",
    "is_held_out",
    "read_documents",
    "require_text",
    "standard_library",
    "standard_library_files",
]

_EXPECTED_ROW = '{"text": "..."}'
_TEXT_SUFFIXES = (".txt", ".md", ".rst", ".py", ".jsonl")
# tests, other packages, and the interpreter's help texts, which are prose
_LEFT_OUT = frozenset(
    {"test", "tests", "idle_test", "site-packages", "dist-packages", "pydoc_data"}
)
_NAMES_SHOWN = 3  # of the first documents, in a message
_FEWEST_FILES = 100  # a standard library with fewer sources has been stripped


@dataclass(frozen=True, slots=True)
class Document:
    """A text and where it came from."""

    name: str  # below the folder that was read, so that the same files elsewhere have it too
    text: str
    is_web_page: bool = False  # the text is HTML


def read_documents(path: str | Path) -> Iterator[Document]:
    """Reads a text file as one document, a `.jsonl` file as one a line, a folder as all its files.

    Raises:
        FileNotFoundError: `path` does not exist, or is a folder without text files.
        ValueError: a file is not UTF-8, or a line is not a JSON object with a string "text".
    """
    path = Path(path)
    if path.is_dir():
        files = _text_files(path)
        if not files:
            expected = ", ".join(_TEXT_SUFFIXES)
            raise FileNotFoundError(f"{path} holds no text files; expected files named {expected}")
        for file in files:
            yield from _read_file(file, file.relative_to(path).as_posix())
    elif not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a text file or a folder of them")
    else:
        yield from _read_file(path, path.name)


def require_text(documents: Iterable[Document]) -> Iterator[Document]:
    """Yields the documents.

    Raises:
        ValueError: at their end, where none of them holds text.
    """
    has_text = False
    names: list[str] = []
    for document in documents:
        has_text = has_text or bool(document.text.strip())
        names += [document.name] if len(names) < _NAMES_SHOWN else []
        yield document
    if not has_text:
        raise ValueError(
            f"the data ({', '.join(names) or 'no document'}) holds no text; expected at least one "
            "document that is not empty; give another file"
        )


def standard_library() -> list[Document]:
    """Returns the sources of Python's standard library without its tests, sorted by name.

    Where the sources were stripped, those of the installed packages take their place.

    Raises:
        FileNotFoundError: neither has Python sources.
    """
    root, files = standard_library_files()
    return list(_read_sources(root, files))


def standard_library_files() -> tuple[Path, list[Path]]:
    """Returns the folder of `standard_library` and the files in it, sorted.

    Raises:
        FileNotFoundError: there are no Python sources.
    """
    for key in ("stdlib", "purelib"):
        root = Path(sysconfig.get_paths()[key])
        files = sorted(file for file in root.rglob("*.py") if _is_source(root, file))
        if len(files) >= _FEWEST_FILES:
            return root, files
    raise FileNotFoundError(
        "this Python holds no library sources to train on; `weldlm train --data` takes other text"
    )


def is_held_out(name: str, fraction: float) -> bool:
    """Whether the document `name` is kept from training; stable as the corpus grows."""
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def _text_files(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> NoReturn:
        raise error  # a folder that cannot be read is not left out silently

    walked = os.walk(folder, onerror=refuse)
    files = (Path(place, name) for place, _, names in walked for name in names)
    return sorted(file for file in files if file.suffix in _TEXT_SUFFIXES and file.is_file())


def _is_source(root: Path, file: Path) -> bool:
    return _LEFT_OUT.isdisjoint(file.relative_to(root).parts[:-1]) and file.is_file()


def _read_sources(root: Path, files: Iterable[Path]) -> Iterator[Document]:
    for file in files:
        try:
            text = file.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue  # a handful of sources declare another encoding
        if text.strip():
            yield Document(file.relative_to(root).as_posix(), text)


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        error.filename = error.filename or str(path)  # reading, unlike opening, does not say
        raise
    return decode_text(data, str(path))


def _read_file(path: Path, name: str) -> Iterator[Document]:
    if path.suffix == ".jsonl":
        yield from _read_lines(path, name)
    else:
        yield Document(name, _read_text(path))


def _read_lines(path: Path, name: str) -> Iterator[Document]:
    # not splitlines: JSON may hold U+2028 and its like as they are
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        row = parse_json(line, place, expected=_EXPECTED_ROW)
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise ValueError(f"{place} is {line[:60]!a}; expected {_EXPECTED_ROW}; mend the line")
        require_whole_characters(row["text"], f'the "text" of {place}')
        yield Document(f"{name}:{number}", row["text"])
