"""A small tokenizer in each format that is read, made here: nothing is needed but this package."""

import base64
import functools
import json
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import gguf

from weldlm.tokenizer import Tokenizer, UnigramSettings
from weldlm.tokenizer.bpe import BpeModel
from weldlm.tokenizer.byte_characters import characters_from_bytes
from weldlm.tokenizer.pattern_families import PATTERNS

CORPUS = [
    "the theme of the thesis is there, there! the end of 12 and 345",
    "thesis and synthesis, \u4e2d\u6587 \xe9t\xe9 it's The End",
] * 4
TEXT = "the thesis is 12 there! \xe9t\xe9 synthesis xyz"

# pieces of SentencePiece with their scores; the three special ones come first
_PIECES = ["the", "\u2581the", "th", "is", "\u2581", "t", "h", "e", "s", "i", "n", "y", "1", "2"]
_KINDS = {"<unk>": 2, "<s>": 3, "</s>": 3}


@functools.cache
def learned(algorithm: str) -> Tokenizer:
    return {
        "bpe": lambda: Tokenizer.train(CORPUS, 290),
        "wordpiece": lambda: Tokenizer.train(CORPUS, 64, algorithm="wordpiece"),
        "unigram": lambda: Tokenizer.train(
            CORPUS, 38, algorithm=UnigramSettings(character_coverage=1.0)
        ),
    }[algorithm]()


def spiece_pieces() -> list[tuple[str, float, int]]:
    """Piece, score and kind of each id of a SentencePiece vocabulary with bytes."""
    first = [(name, 0.0, kind) for name, kind in _KINDS.items()]
    of_bytes = [(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)]
    return [*first, *of_bytes, *((piece, -1.0 - i, 1) for i, piece in enumerate(_PIECES))]


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number: int, value: int | float | bytes) -> bytes:
    """A field of a protocol buffer."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(value)


def spiece(model_type: int) -> bytes:
    pieces = [
        field(1, field(1, piece.encode()) + field(2, score) + field(3, kind))
        for piece, score, kind in spiece_pieces()
    ]
    trainer = field(3, model_type) + field(35, 1) + field(40, 0)
    normalizer = field(3, 1) + field(4, 0) + field(5, 1)
    return b"".join(pieces) + field(2, trainer) + field(3, normalizer)


def llama2c(records: Iterable[tuple[bytes, float]]) -> bytes:
    rows = list(records)
    longest = max(len(name) for name, _ in rows)
    return struct.pack("<I", longest) + b"".join(
        struct.pack("<fi", score, len(name)) + name for name, score in rows
    )


def llama2c_records() -> list[tuple[bytes, float]]:
    names = [piece.replace("\u2581", " ").encode() for piece, _, _ in spiece_pieces()]
    names[1:3] = b"\n<s>\n", b"\n</s>\n"
    return [(name, score) for name, (_, score, _) in zip(names, spiece_pieces(), strict=True)]


def _json_bytes(tokenizer: Tokenizer) -> bytes:
    with TemporaryDirectory() as folder:
        tokenizer.save(Path(folder) / "x")
        return (Path(folder) / "x").read_bytes()


def _llama_json() -> bytes:
    names = [piece for piece, _, _ in spiece_pieces()]
    document = json.loads(_json_bytes(learned("bpe"))) | {
        "added_tokens": [],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "\u2581"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
            ],
        },
        "pre_tokenizer": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "byte_fallback": True,
            "fuse_unk": True,
            "unk_token": "<unk>",
            "vocab": {name: i for i, name in enumerate(names)},
            "merges": [["t", "h"], ["th", "e"], ["i", "s"], ["\u2581", "the"]],
        },
    }
    return json.dumps(document).encode()


def _ranks() -> bytes:
    tokens = learned("bpe").parts.tokens[1:]
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(tokens)]
    return "".join(lines).encode()


def names_of_bpe() -> list[str]:
    tokens = learned("bpe").parts.tokens
    return ["<|endoftext|>", *map(characters_from_bytes, tokens[1:])]


def merges_of_bpe() -> list[str]:
    model, names = learned("bpe").parts.model, names_of_bpe()
    assert isinstance(model, BpeModel)
    return [f"{names[left]} {names[right]}" for left, right, _ in model.merges.tolist()]


def _vocab() -> bytes:
    return json.dumps({name: i for i, name in enumerate(names_of_bpe())}).encode()


def _merges() -> bytes:
    return ("#version: 0.2\n" + "\n".join(merges_of_bpe()) + "\n").encode()


def _vocab_txt() -> bytes:
    return b"".join(token + b"\n" for token in learned("wordpiece").parts.tokens)


def gguf_bytes(*fills: Callable[[gguf.GGUFWriter], None]) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_uint32("llama.context_length", 8)
        for fill in fills:
            fill(writer)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        return path.read_bytes()


def fill_byte_level(writer: gguf.GGUFWriter) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(names_of_bpe())
    writer.add_token_types([3] + [1] * (len(names_of_bpe()) - 1))
    writer.add_token_merges(merges_of_bpe())
    writer.add_eos_token_id(0)
    writer.add_add_eos_token(True)
    writer.add_chat_template("{{ messages[0]['content'] }}")


def fill_spiece(writer: gguf.GGUFWriter) -> None:
    rows = spiece_pieces()
    writer.add_tokenizer_model("llama")
    writer.add_token_list([piece for piece, _, _ in rows])
    writer.add_token_scores([score for _, score, _ in rows])
    writer.add_token_types([kind for _, _, kind in rows])
    writer.add_bos_token_id(1)
    writer.add_add_bos_token(True)


FORMATS: dict[str, Callable[[], bytes]] = {
    "json-bpe": lambda: _json_bytes(learned("bpe")),
    "json-wordpiece": lambda: _json_bytes(learned("wordpiece")),
    "json-unigram": lambda: _json_bytes(learned("unigram")),
    "json-llama": _llama_json,
    "ranks": _ranks,
    "vocab-json": _vocab,
    "merges-txt": _merges,
    "vocab-txt": _vocab_txt,
    "spiece-unigram": lambda: spiece(1),
    "spiece-bpe": lambda: spiece(2),
    "gguf-bpe": lambda: gguf_bytes(fill_byte_level),
    "gguf-spiece": lambda: gguf_bytes(fill_spiece),
    "llama2c": lambda: llama2c(llama2c_records()),
}

# two files make one tokenizer: their names say so
NAMES = {"vocab-json": "vocab.json", "merges-txt": "merges.txt"}
# what a file does not say
OPTIONS: dict[str, dict[str, str]] = {"ranks": {"pattern": PATTERNS["gpt2"]}}
_BESIDE = {"vocab-json": "merges-txt", "merges-txt": "vocab-json"}


@functools.cache
def content(name: str) -> bytes:
    return FORMATS[name]()


def written(name: str, folder: Path, file_name: str, data: bytes | None = None) -> Path:
    """A file of a format, or with other data, and beside it what it needs."""
    path = folder / NAMES.get(name, file_name)
    path.write_bytes(content(name) if data is None else data)
    if name in _BESIDE:
        beside = _BESIDE[name]
        (folder / NAMES[beside]).write_bytes(content(beside))
    return path
