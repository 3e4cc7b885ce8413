"""A prepared corpus: a folder with shards, their tokenizer and a report, whole or not there."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weldlm.data.prepare import Corpus
from weldlm.data.shards import TokenShards
from weldlm.sealed_folder import check_hashes, read_manifest
from weldlm.tokenizer import Tokenizer

__all__ = ["PreparedCorpus", "is_prepared", "open_prepared"]

KIND, VERSION = "weldlm corpus", 1
TRAIN, VALID, TOKENIZER = "train", "valid", "tokenizer.json"


@dataclass(frozen=True, slots=True)
class PreparedCorpus:
    """What `prepare_data` wrote."""

    folder: Path
    corpus: Corpus
    has_frame: bool  # each document stands between two end-of-text ids
    manifest: dict[str, Any]


def is_prepared(folder: str | Path) -> bool:
    """Whether there is a prepared corpus."""
    try:
        return read_manifest(Path(folder)).get("kind") == KIND
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False


def open_prepared(folder: str | Path, *, verify: bool = False) -> PreparedCorpus:
    """Opens a prepared corpus.

    Args:
        folder: that `prepare_data` wrote.
        verify: also read everything and compare its hashes.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds something else, or a file is damaged.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest.get("kind") != KIND or manifest.get("version") != VERSION:
        raise ValueError(
            f"{folder} holds {manifest.get('kind', 'something else')!r}, version "
            f"{manifest.get('version')}; expected {KIND!r}, version {VERSION}"
        )
    check_hashes(folder, manifest)  # of the small files
    train = TokenShards.open(folder / TRAIN, verify=verify)
    valid = TokenShards.open(folder / VALID, verify=verify) if VALID in manifest["shards"] else None
    for name, shards in ((TRAIN, train), (VALID, valid)):
        if shards is not None and shards.fingerprint != manifest["shards"][name]:
            raise ValueError(f"{folder / name} is of another corpus; prepare the corpus again")
    corpus = Corpus(Tokenizer.from_file(folder / TOKENIZER), train, valid)
    return PreparedCorpus(folder, corpus, manifest["settings"]["frame"], manifest)


def describe_file(path: Path) -> dict[str, Any]:
    """What the manifest says about a small file."""
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
