"""Compiled vocabularies that are kept: the same ids, and nothing lost where a file is no good."""

import mmap
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.engine.sentencepiece_oracles import T5_PATH
from tests.engine.tokenizer_oracles import GPT2_PATH, small
from tests.engine.wordpiece_oracles import VOCAB_PATH
from weldlm import _tokenizer
from weldlm.tokenizer import Tokenizer, TokenizerParts, compiled_cache
from weldlm.tokenizer.compiled_cache import cache_folder, read_compiled
from weldlm.tokenizer.files import read_tokenizer_file
from weldlm.tokenizer.tokenizer_config import TokenizerConfig

TEXT = "The  quick brown fox, don't! \u4e2d\u6587 e\u0301 \U0001f600\n\n 12345<|endoftext|>"
FILES = [
    pytest.param(
        path,
        id=path.stem,
        marks=pytest.mark.skipif(
            not path.is_file(), reason=f"{path} is absent; WELDLM_TEST_DATA names the folder"
        ),
    )
    for path in (GPT2_PATH, T5_PATH, VOCAB_PATH)
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache that also takes small files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled_cache, "_LEAST_BYTES", 1)
    return cache_folder()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer.json"
    small().save(path)
    return path


def refuse(path: Path, _: Mapping[str, object]) -> tuple[TokenizerParts, TokenizerConfig]:
    raise AssertionError(f"{path} was read although it is in the cache")


def the_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


@pytest.mark.parametrize("file", FILES)
def test_ids_places_and_texts_are_those_without_the_cache(file: Path, folder: Path) -> None:
    plain = Tokenizer.from_file(file, use_cache=False)
    Tokenizer.from_file(file)

    cached = Tokenizer(*read_compiled(file, {}, refuse))

    ids = plain.encode(TEXT, allowed_special="all")
    assert cached.encode(TEXT, allowed_special="all") == ids
    assert cached.decode(ids) == plain.decode(ids)
    assert cached.encode_with_offsets(TEXT, allowed_special="all").offsets.tolist() == (
        plain.encode_with_offsets(TEXT, allowed_special="all").offsets.tolist()
    )
    assert cached.parts.tokens == plain.parts.tokens
    assert the_file(folder).stat().st_size > 0


def test_cached_tokenizer_is_saved_as_the_one_that_was_read(
    path: Path, folder: Path, tmp_path: Path
) -> None:
    Tokenizer.from_file(path)

    Tokenizer(*read_compiled(path, {}, refuse)).save(tmp_path / "again.json")

    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert folder.is_dir()


def test_folder_of_a_model_gives_its_roles_from_the_cache(folder: Path, tmp_path: Path) -> None:
    saved = Tokenizer(small().parts, TokenizerConfig(roles={"eos_token": "<|endoftext|>"}))
    saved.save_pretrained(tmp_path / "model")
    Tokenizer.from_pretrained(tmp_path / "model")

    again = Tokenizer.from_pretrained(tmp_path / "model")

    assert (again.eos_id, again.encode_ordinary(TEXT)) == (0, small().encode_ordinary(TEXT))
    assert the_file(folder).stat().st_size > 0


@pytest.mark.parametrize("place", [0, 17, 30, 90, 500, -1])
def test_damaged_file_is_ignored_and_written_again(place: int, path: Path, folder: Path) -> None:
    Tokenizer.from_file(path)
    whole = the_file(folder).read_bytes()
    damaged = bytearray(whole)
    damaged[place] ^= 0x40
    the_file(folder).write_bytes(damaged)

    again = Tokenizer.from_file(path)

    assert again.encode_ordinary(TEXT) == small().encode_ordinary(TEXT)
    assert the_file(folder).read_bytes() == whole


@pytest.mark.parametrize("size", [0, 10, 24, 100, 5000])
def test_cut_file_is_ignored_and_written_again(size: int, path: Path, folder: Path) -> None:
    Tokenizer.from_file(path)
    whole = the_file(folder).read_bytes()
    the_file(folder).write_bytes(whole[:size])

    again = Tokenizer.from_file(path)

    assert again.encode_ordinary(TEXT) == small().encode_ordinary(TEXT)
    assert the_file(folder).read_bytes() == whole


@pytest.mark.parametrize("missing", [64, 65, 128, 300, 500])
def test_image_that_is_cut_is_refused(missing: int) -> None:
    vocabulary = _tokenizer.Vocabulary([b"a", b"bc"])
    image = _tokenizer.write_image(vocabulary, _tokenizer.Decoder([b"a", b"bc"], [], ()), None)
    memory = mmap.mmap(-1, len(image))  # begins at an aligned place
    memory.write(image)

    assert _tokenizer.read_image(memoryview(memory), False)[0].tokens() == [b"a", b"bc"]
    with pytest.raises(ValueError, match="image"):
        _tokenizer.read_image(memoryview(memory)[:-missing], False)


@pytest.mark.parametrize("offset", [3, 2**32, 2**64 - 1])
def test_forged_offset_of_an_image_is_refused(offset: int) -> None:
    tokens = [b"a", b"b", b"c"]
    vocabulary = _tokenizer.Vocabulary(tokens)
    image = bytearray(_tokenizer.write_image(vocabulary, _tokenizer.Decoder(tokens, [], ()), None))
    offsets = image.index(struct.pack("<4Q", 0, 1, 2, 3))
    struct.pack_into("<Q", image, offsets + 8, offset)
    memory = mmap.mmap(-1, len(image))
    memory.write(image)

    with pytest.raises(ValueError, match="the tokens of the image do not fit their places"):
        _tokenizer.read_image(memoryview(memory), False)


def test_pickle_can_name_nothing_but_parts(path: Path, folder: Path, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "made"),)

    Tokenizer.from_file(path)
    the_file(folder).write_bytes(compiled_cache._packed([pickle.dumps(Hostile()), b""]))

    again = Tokenizer.from_file(path)

    assert again.encode_ordinary(TEXT) == small().encode_ordinary(TEXT)
    assert not (tmp_path / "made").exists()


def test_changed_file_is_read(path: Path, folder: Path) -> None:
    Tokenizer.from_file(path)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("<|endoftext|>", "<|endofttext|"), encoding="utf-8")

    again = Tokenizer.from_file(path)

    assert list(again.special_tokens) == ["<|endofttext|"]
    assert len(list(folder.iterdir())) == 2


def test_processes_may_write_one_file_at_once(path: Path, folder: Path) -> None:
    program = (
        "from weldlm.tokenizer import Tokenizer, compiled_cache\n"
        "compiled_cache._LEAST_BYTES = 1\n"
        f"print(Tokenizer.from_file({str(path)!r}).encode_ordinary({TEXT!r}))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]

    outputs = [process.communicate()[0] for process in running]

    assert outputs == [f"{small().encode_ordinary(TEXT)}\n"] * 3
    assert Tokenizer(*read_compiled(path, {}, refuse)).vocab_size == small().vocab_size
    assert the_file(folder).suffix == ".vocabulary"


def test_cache_that_cannot_be_written_does_no_harm(
    path: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    ids = [Tokenizer.from_file(path).encode_ordinary(TEXT) for _ in range(2)]

    assert ids == [small().encode_ordinary(TEXT)] * 2
    assert not folder.exists()


def test_cache_is_left_alone_where_it_is_not_wanted(path: Path, folder: Path) -> None:
    Tokenizer.from_file(path, use_cache=False)

    assert not folder.exists()


def load_a_copy(path: Path, number: int) -> set[str]:
    """What is in the cache after a file of another name was read as the `number`th."""
    copy = path.with_name(f"{number}.json")
    copy.write_bytes(path.read_bytes())
    Tokenizer.from_file(copy)
    newest = max(cache_folder().iterdir(), key=lambda file: file.stat().st_mtime_ns)
    os.utime(newest, (number, number))
    return {file.name for file in cache_folder().iterdir()}


def test_oldest_files_go(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_cache, "_MOST_FILES", 2)

    names = [load_a_copy(path, number) for number in range(4)]

    assert [len(kept) for kept in names] == [1, 2, 2, 2]
    assert len(names[3] - names[1]) == 2
    assert folder.is_dir()


def test_damaged_tokenizer_names_its_file(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")

    with pytest.raises(ValueError, match=r"^/.*tokenizer\.json: invalid JSON"):
        Tokenizer.from_file(tmp_path / "tokenizer.json")

    assert not folder.exists()


def test_reading_is_that_of_the_file(path: Path, folder: Path) -> None:
    compiled, config = read_compiled(path, {}, read_tokenizer_file)
    again, config_again = read_compiled(path, {}, refuse)

    assert config_again == config
    assert again.parts.added_tokens == compiled.parts.added_tokens
    assert again.vocabulary.tokens() == compiled.parts.tokens
    assert folder.is_dir()
