"""From texts to what a run trains on: a tokenizer, training shards and held-out shards."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weldlm.atomic_file import replace_text
from weldlm.data.corpus import Document, is_held_out, require_text
from weldlm.data.shards import TokenShards, create_shards
from weldlm.sealed_folder import lock_folder
from weldlm.tokenizer import RaggedIds, Tokenizer

__all__ = [
    "Corpus",
    "encode_framed",
    "frame_documents",
    "hold_out",
    "open_corpus",
    "prepare_corpus",
    "tokenize_documents",
]

_DOCUMENTS_AT_ONCE = 512
# below the folder of a run
_TOKENIZER, _SOURCE = "tokenizer.json", "data/source.json"
_TRAIN, _VALID = "data/train", "data/valid"

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Corpus:
    """What a run trains on."""

    tokenizer: Tokenizer
    train: TokenShards
    valid: TokenShards | None  # documents kept from training


def prepare_corpus(
    documents: Sequence[Document],
    folder: str | Path,
    *,
    held_out: float,
    tokenizer: Tokenizer | Callable[[Iterable[str]], Tokenizer],
    vocabulary: str,
    has_frame: bool = True,
) -> Corpus:
    """Writes tokenizer.json, data/valid and data/train below `folder`, or reads them if they exist.

    Args:
        documents: the texts.
        folder: of the run.
        held_out: share of the documents kept from training.
        tokenizer: one to use, or a function that learns one from the training texts.
        vocabulary: names the tokenizer asked for, such as its file or size.
        has_frame: each document stands between two end-of-text ids.

    Raises:
        BlockingIOError: another program works in the folder.
        ValueError: there is no text, or the folder was prepared from something else.
    """
    folder = Path(folder)
    source = {
        "documents": len(documents),
        "sha256": _hash(documents),
        "held_out": held_out,
        "vocabulary": vocabulary,
        "has_frame": has_frame,
    }
    with lock_folder(folder):
        kept, rest = hold_out(documents, held_out)
        is_prepared = (folder / _TRAIN).is_dir()  # written last
        if is_prepared:
            prepared = _read_source(folder / _SOURCE)
            _check_source(folder, prepared, source)
            _check_tokenizer(folder / _TOKENIZER, prepared)
        else:
            _check_text(documents, kept, held_out)
            _write(folder, kept, rest, tokenizer, source, has_frame=has_frame)
        ours = Tokenizer.from_file(folder / _TOKENIZER)
        if rest and not (folder / _VALID).is_dir():  # removed because it was damaged
            tokenize_documents(rest, ours, folder / _VALID, has_frame=has_frame)
        return Corpus(
            ours,
            TokenShards.open(folder / _TRAIN, verify=is_prepared),
            TokenShards.open(folder / _VALID, verify=is_prepared) if rest else None,
        )


def open_corpus(folder: Path) -> Corpus:
    """Reads what `prepare_corpus` wrote, without a look at the documents."""
    valid = folder / _VALID
    return Corpus(
        Tokenizer.from_file(folder / _TOKENIZER),
        TokenShards.open(folder / _TRAIN),
        TokenShards.open(valid) if valid.is_dir() else None,
    )


def _write(
    folder: Path,
    kept: list[Document],
    rest: list[Document],
    tokenizer: Tokenizer | Callable[[Iterable[str]], Tokenizer],
    source: dict[str, object],
    *,
    has_frame: bool,
) -> None:
    if not isinstance(tokenizer, Tokenizer):
        tokenizer = tokenizer(document.text for document in kept)
    tokenizer.save(folder / _TOKENIZER)
    valid = folder / _VALID
    if valid.is_dir():  # left by a preparation that was interrupted, maybe by another tokenizer's
        shutil.rmtree(valid)
    (folder / _SOURCE).parent.mkdir(exist_ok=True)
    source = {**source, "tokenizer": _hash_file(folder / _TOKENIZER)}
    replace_text(folder / _SOURCE, json.dumps(source, indent=2) + "\n")
    if rest:
        tokenize_documents(rest, tokenizer, valid, has_frame=has_frame)
    tokenize_documents(kept, tokenizer, folder / _TRAIN, has_frame=has_frame)


def _check_text(documents: Sequence[Document], kept: list[Document], held_out: float) -> None:
    for _ in require_text(documents):
        pass
    if not any(document.text.strip() for document in kept):
        raise ValueError(
            f"held_out is {held_out}, which keeps all text of the {len(documents)} documents from "
            "training; expected some to be left; lower held_out or give more documents"
        )


def _hash(documents: Sequence[Document]) -> str:
    digest = hashlib.sha256()
    for document in documents:
        digest.update(f"{document.name}\0{document.text}\0".encode(errors="surrogatepass"))
    return digest.hexdigest()


def _hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_tokenizer(path: Path, prepared: dict[str, object]) -> None:
    if not path.is_file():
        problem = "does not exist"
    elif _hash_file(path) != prepared.get("tokenizer"):
        problem = "has been changed"
    else:
        return
    raise ValueError(
        f"{path} {problem}; expected the tokenizer that the data was encoded with; restore it, or "
        f"remove {path.parent / 'data'} to have both made again"
    )


def _check_source(folder: Path, prepared: dict[str, object], source: dict[str, object]) -> None:
    if prepared.get("sha256") != source["sha256"]:
        raise ValueError(
            f"{folder} was prepared from other texts ({prepared.get('documents')} "
            f"documents, those given are {source['documents']}); give the files that it was made "
            "from, as they were and under the same names, or another folder"
        )
    for name, value in source.items():
        if prepared.get(name) != value:
            raise ValueError(
                f"{folder} was prepared with {name} {prepared.get(name)}, but {value} "
                "is given; give the same again, or another folder"
            )


def _read_source(path: Path) -> dict[str, object]:
    try:
        prepared = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        problem = "does not exist"
    except ValueError as error:
        problem = f"is damaged ({error})"
    else:
        if isinstance(prepared, dict):
            return prepared
        problem = "is damaged"
    raise ValueError(
        f"{path} {problem}; expected the record of what the data was prepared from; restore it, "
        f"or remove {path.parent} to have the data prepared again"
    )


def hold_out(
    documents: Sequence[Document], fraction: float
) -> tuple[list[Document], list[Document]]:
    """Splits documents into those to train on and those to keep, by a hash of the name.

    A single document is cut at a line near its end instead.

    Raises:
        ValueError: `fraction` is not a share.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"the held-out share is {fraction}; expected at least 0 and below 1")
    if len(documents) == 1 and fraction > 0:
        (document,) = documents
        cut = document.text.rfind("\n", 0, int(len(document.text) * (1 - fraction)) + 1) + 1
        head = Document(document.name, document.text[: cut or None])
        tail = Document(f"{document.name}:tail", document.text[cut:])
        return [head], [tail] if cut else []
    kept = [document for document in documents if not is_held_out(document.name, fraction)]
    rest = [document for document in documents if is_held_out(document.name, fraction)]
    return kept, rest


def tokenize_documents(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    folder: str | Path,
    *,
    has_frame: bool = True,
) -> TokenShards:
    """Writes documents as shards.

    Args:
        documents: read a few hundred at a time.
        tokenizer: encodes on all cores; special tokens in the text are plain text.
        folder: must not exist; appears when all is written.
        has_frame: each document stands between two end-of-text ids, where the vocabulary has one.

    Raises:
        FileExistsError: the folder exists.
        ValueError: there is no text.
    """
    with create_shards(folder, vocab_size=tokenizer.vocab_size) as writer:
        for group in _batched(documents, _DOCUMENTS_AT_ONCE):
            texts = [document.text for document in group]
            framed = encode_framed(texts, tokenizer, writer.dtype, has_frame=has_frame)
            writer.add(
                framed.ids,
                np.diff(framed.offsets),
                source_bytes=sum(len(document.text.encode()) for document in group),
            )
    return TokenShards.open(folder)


def frame_documents(texts: list[str], tokenizer: Tokenizer) -> list[Ids]:
    """Encodes texts and puts each between two end-of-text ids where the vocabulary has one."""
    return [ids.astype(np.int64) for ids in encode_framed(texts, tokenizer, np.uint32)]


def encode_framed(
    texts: list[str], tokenizer: Tokenizer, dtype: npt.DTypeLike, *, has_frame: bool = True
) -> RaggedIds:
    """Encodes texts, each between two end-of-text ids where `has_frame` and the vocabulary has one.

    Special tokens in the texts are plain text.
    """
    frame_id = tokenizer.eos_id if has_frame else None
    return tokenizer.encode_batch(
        texts,
        dtype=dtype,
        frame_id=frame_id,
        add_special_tokens=has_frame,
        disallowed_special=(),
    )


def _batched(documents: Iterable[Document], size: int) -> Iterator[list[Document]]:
    iterator = iter(documents)
    while group := list(islice(iterator, size)):
        yield group
