"""Token shards hold what was written, and say so when they do not."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from weldlm.data import TokenShards, create_shards, write_shards

DOCUMENTS = [[5, 0, 96], [], [7], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [42] * 6]


@pytest.fixture
def shards(tmp_path: Path) -> TokenShards:
    return write_shards(tmp_path / "shards", DOCUMENTS, vocab_size=97, tokens_per_file=4)


def edit_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("index", range(len(DOCUMENTS)))
def test_document_comes_back_from_several_files(shards: TokenShards, index: int) -> None:
    assert shards.document(index).tolist() == DOCUMENTS[index]


@pytest.mark.parametrize(
    ("vocab_size", "dtype"),
    [(2, "<u2"), (65_536, "<u2"), (65_537, "<u4"), (1 << 32, "<u4")],
    ids=["smallest", "last of two bytes", "first of four bytes", "largest"],
)
def test_largest_id_survives(tmp_path: Path, vocab_size: int, dtype: str) -> None:
    shards = write_shards(tmp_path / "shards", [[0, vocab_size - 1]], vocab_size=vocab_size)

    assert shards.document(0).tolist() == [0, vocab_size - 1]
    assert (tmp_path / "shards" / "tokens-00000.bin").stat().st_size == 2 * np.dtype(dtype).itemsize


def test_counts_and_lengths(shards: TokenShards) -> None:
    assert (shards.num_documents, shards.num_tokens) == (5, 21)
    assert shards.lengths.tolist() == [3, 0, 1, 11, 6]


@settings(max_examples=25, deadline=None)
@given(pieces=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 11), st.integers(0, 11))))
def test_gather_equals_slices(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, int, int]]
) -> None:
    documents = [DOCUMENTS[index] for index in (0, 2, 3, 4)]
    folder = tmp_path_factory.mktemp("gather") / "shards"
    shards = write_shards(folder, documents, vocab_size=97, tokens_per_file=4)
    cut = [
        (document, sorted((min(a, len(documents[document])), min(b, len(documents[document])))))
        for document, a, b in pieces
    ]
    starts = np.array(
        [shards.offsets[document] + ends[0] for document, ends in cut], dtype=np.int64
    )
    lengths = np.array([ends[1] - ends[0] for _, ends in cut], dtype=np.int64)

    ids = shards.gather(starts, lengths)

    assert ids.tolist() == [
        token for document, ends in cut for token in documents[document][slice(*ends)]
    ]


def test_batches_and_single_documents_give_the_same_shards(
    shards: TokenShards, tmp_path: Path
) -> None:
    with create_shards(tmp_path / "batched", vocab_size=97, tokens_per_file=4) as writer:
        writer.add([5, 0, 96, 7], [3, 0, 1])
        writer.add([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
        writer.add([42] * 6)

    assert TokenShards.open(tmp_path / "batched").fingerprint == shards.fingerprint


@pytest.mark.parametrize(
    "documents",
    [
        [[5, 0, 95], *DOCUMENTS[1:]],
        [*DOCUMENTS[1:], DOCUMENTS[0]],
        [[5, 0], [96], *DOCUMENTS[2:]],
    ],
    ids=["other token", "other order", "other borders"],
)
def test_fingerprint_follows_the_content(
    shards: TokenShards, tmp_path: Path, documents: list[list[int]]
) -> None:
    other = write_shards(tmp_path / "other", documents, vocab_size=97, tokens_per_file=4)

    assert other.fingerprint != shards.fingerprint


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((10, 32), 21 / 42), ((10, None), None), ((None, 32), None)],
    ids=["known", "second unknown", "first unknown"],
)
def test_tokens_per_byte_is_known_when_every_size_is(
    tmp_path: Path, sizes: tuple[int | None, int | None], expected: float | None
) -> None:
    with create_shards(tmp_path / "shards", vocab_size=97) as writer:
        writer.add([1] * 20, source_bytes=sizes[0])
        writer.add([2], source_bytes=sizes[1])

    assert TokenShards.open(tmp_path / "shards").tokens_per_byte == expected


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([96, 97], "document 2 holds the id 97; expected 0 to 96"),
        ([-1], "document 2 holds the id -1; expected 0 to 96"),
        ([0.5], "document 2 has shape .1,. and dtype float64; expected .T. integers"),
        ([[1, 2]], "document 2 has shape .1, 2. and dtype int64; expected .T. integers"),
    ],
    ids=["too large", "negative", "fraction", "two dimensions"],
)
def test_bad_document_is_named_and_leaves_nothing(
    tmp_path: Path, document: npt.ArrayLike, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_shards(tmp_path / "shards", [[1, 2], [], document, [3]], vocab_size=97)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("documents", [[], [[], []]], ids=["no document", "no token"])
def test_empty_corpus_is_refused(tmp_path: Path, documents: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="the documents hold no token"):
        write_shards(tmp_path / "shards", documents, vocab_size=97)

    assert list(tmp_path.iterdir()) == []


def test_failing_source_leaves_nothing(tmp_path: Path) -> None:
    def documents() -> Iterator[list[int]]:
        yield [1, 2, 3]
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        write_shards(tmp_path / "shards", documents(), vocab_size=97, tokens_per_file=1)

    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_refused_and_kept(shards: TokenShards) -> None:
    with pytest.raises(FileExistsError, match="exists; remove it or choose another"):
        write_shards(shards.folder, [[1]], vocab_size=97)

    assert TokenShards.open(shards.folder).fingerprint == shards.fingerprint


def test_truncated_file_is_named_with_both_sizes(shards: TokenShards) -> None:
    with (shards.folder / "tokens-00001.bin").open("r+b") as file:
        file.truncate(10)

    with pytest.raises(ValueError, match=r"tokens-00001.bin has 10 bytes; expected 22"):
        TokenShards.open(shards.folder)


def test_missing_file_is_named(shards: TokenShards) -> None:
    (shards.folder / "offsets.bin").unlink()

    with pytest.raises(ValueError, match=r"offsets.bin is missing; expected 48 bytes"):
        TokenShards.open(shards.folder)


def test_flipped_bit_is_found_on_request(shards: TokenShards) -> None:
    path = shards.folder / "tokens-00000.bin"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])

    with pytest.raises(ValueError, match=r"tokens-00000.bin has SHA-256 \w+...; expected"):
        TokenShards.open(shards.folder, verify=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is damaged"), ("[]", "is damaged"), ('{"files": {"a": 3}}', "is damaged")],
    ids=["cut", "list", "wrong entry"],
)
def test_damaged_manifest_is_one_line(shards: TokenShards, text: str, message: str) -> None:
    (shards.folder / "manifest.json").write_text(text)

    with pytest.raises(ValueError, match=message) as caught:
        TokenShards.open(shards.folder)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "weldlm checkpoint"}, "holds 'weldlm checkpoint', version 1; expected"),
        ({"version": 2}, "version 2; expected 'weldlm token shards', version 1"),
        ({"num_documents": 4}, "does not fit the files"),
        ({"tokens_in_files": [4, 4]}, "does not fit the files"),
        ({"dtype": "uint17"}, "does not fit the files"),
        ({"dtype": None}, "does not fit the files"),
    ],
    ids=["kind", "version", "documents", "tokens", "dtype", "no dtype"],
)
def test_foreign_manifest_is_refused(
    shards: TokenShards, changes: dict[str, Any], message: str
) -> None:
    edit_manifest(shards.folder, **changes)

    with pytest.raises(ValueError, match=message):
        TokenShards.open(shards.folder)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        TokenShards.open(tmp_path / "nowhere")


@settings(max_examples=25, deadline=None)
@given(ids=arrays(np.uint32, st.integers(1, 50), elements=st.integers(0, 99_999)))
def test_any_document_round_trips(
    tmp_path_factory: pytest.TempPathFactory, ids: npt.NDArray[np.uint32]
) -> None:
    folder = tmp_path_factory.mktemp("round_trip") / "shards"

    shards = write_shards(folder, [ids], vocab_size=100_000)

    assert shards.document(0).tolist() == ids.tolist()


def test_contents_are_read_for_their_hashes_only_once(
    shards: TokenShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[Path] = []
    monkeypatch.setattr(
        "weldlm.data.shards.check_hashes", lambda folder, _manifest: checked.append(folder)
    )

    shards.verify()
    shards.verify()

    assert checked == [shards.folder]
