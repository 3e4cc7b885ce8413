"""Which reader a tokenizer's file asks for: decided by what is in it, not by its name."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from weldlm.gguf_file import is_gguf
from weldlm.tokenizer.bert import SPECIAL_TOKENS, bert_parts
from weldlm.tokenizer.gguf_tokenizer import read_gguf_tokenizer
from weldlm.tokenizer.llama2c_vocabulary import is_llama2c_vocabulary, read_llama2c_vocabulary
from weldlm.tokenizer.parts import TokenizerParts
from weldlm.tokenizer.special_roles import usual_roles
from weldlm.tokenizer.spiece_model import read_spiece_model
from weldlm.tokenizer.tiktoken_ranks import RankRules, read_tiktoken
from weldlm.tokenizer.tokenizer_config import TokenizerConfig, read_config, read_json_object
from weldlm.tokenizer.tokenizer_json import read_tokenizer_json
from weldlm.tokenizer.vocab_merges import read_vocab_merges
from weldlm.tokenizer.vocab_txt import read_vocab_txt

__all__ = ["find_tokenizer", "read_tokenizer_file", "read_tokenizer_folder"]

Parts = TypeVar("Parts")

_Kind: TypeAlias = Literal[
    "gguf",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "llama2c",
    "sentencepiece",
    "ranks",
    "vocab.txt",
]

# names that folders use, the most complete description first
_NAMES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
)
_ENDINGS = (".tiktoken", ".model", ".gguf")
_HEAD_BYTES = 1 << 16
_FEW_LINES = 32
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# the first value is an id, not a section of tokenizer.json
_FLAT_OBJECT = re.compile(rb'\s*\{\s*"(?:[^"\\]|\\.)*"\s*:\s*-?[0-9]')


def find_tokenizer(folder: Path) -> Path:
    """The file of a folder that describes its tokenizer best.

    Raises:
        FileNotFoundError: there is none.
    """
    named = [folder / name for name in _NAMES]
    ending = [path for end in _ENDINGS for path in sorted(folder.glob(f"*{end}"))]
    vocabularies = [path for path in sorted(folder.glob("*.bin")) if is_llama2c_vocabulary(path)]
    for path in named + ending + vocabularies:
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{folder} has no tokenizer; expected tokenizer.json, a SentencePiece .model, vocab.json "
        "with merges.txt, vocab.txt, .tiktoken or .gguf"
    )


def read_tokenizer_folder(
    folder: Path, read: Callable[[Path, Mapping[str, object]], tuple[Parts, TokenizerConfig]]
) -> tuple[Parts, TokenizerConfig]:
    """Reads the tokenizer in the folder of a model, with its special tokens and chat template.

    Args:
        folder: or the file of a model: GGUF, which holds its tokenizer, or one with it beside.
        read: reads the file that was found, as `read_tokenizer_file` does.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a file is damaged or asks for what this package does not do.
    """
    if folder.is_file():
        if is_gguf(folder):
            return read(folder, {})
        folder = folder.parent
    path = find_tokenizer(folder)
    parts, config = read(path, read_json_object(folder / "tokenizer_config.json"))
    given = read_config(folder)
    return parts, replace(
        given,
        roles={**config.roles, **given.roles},
        chat_templates=given.chat_templates or config.chat_templates,
    )


def read_tokenizer_file(
    path: Path, settings: Mapping[str, object], *, rules: RankRules | None = None
) -> tuple[TokenizerParts, TokenizerConfig]:
    """Reads one file.

    Args:
        settings: those of tokenizer_config.json that a bare vocabulary does not hold.
        rules: what a rank file does not say; None where the caller says nothing.

    Raises:
        FileNotFoundError: there is none.
        IsADirectoryError: it is a folder.
        ValueError: the file is damaged or asks for what this package does not do.
    """
    if path.is_dir():
        raise IsADirectoryError(
            f"{path} is a folder; expected the file of a tokenizer; read the tokenizer of a "
            "model's folder with Tokenizer.from_pretrained"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected the file of a tokenizer")
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    try:
        kind = _kind(path, head)
        if rules is not None and kind != "ranks":
            raise ValueError(
                "pattern and special_tokens are for rank files, and this file is none: it says "
                "itself how text is split; leave them out"
            )
        if kind == "gguf":
            return read_gguf_tokenizer(path)
        if kind == "tokenizer.json":
            return read_tokenizer_json(path), TokenizerConfig()
        parts = _bare_parts(path, kind, settings, rules or RankRules())
        return parts, TokenizerConfig(roles=usual_roles(parts, said=settings))
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from error


def _kind(path: Path, head: bytes) -> _Kind:
    if not head.strip():
        raise ValueError("the file is empty; expected a tokenizer")
    if head.startswith(b"GGUF"):
        return "gguf"
    text = head.removeprefix(_BYTE_ORDER_MARK)
    if text.lstrip(b" \t\r\n")[:1] == b"{":
        return "vocab.json" if _FLAT_OBJECT.match(text) else "tokenizer.json"
    if is_llama2c_vocabulary(path):
        return "llama2c"
    if head[:1] == b"\n" and not _is_text(head):  # the first field of the message, a piece
        return "sentencepiece"
    if _is_ranks(head):
        return "ranks"
    if text.startswith(b"#version"):
        return "merges.txt"
    if path.suffix == ".json":
        return "tokenizer.json"  # whose reader says what is wrong
    if path.suffix == ".tiktoken" and b"[UNK]" not in head.split():
        return "ranks"
    if _is_text(head):
        return "vocab.txt"
    raise ValueError(
        "the file is none of tokenizer.json, a SentencePiece .model, vocab.json, merges.txt, "
        "vocab.txt, a .tiktoken or GGUF file"
    )


def _bare_parts(
    path: Path, kind: _Kind, settings: Mapping[str, object], rules: RankRules
) -> TokenizerParts:
    """Of a file that does not say what its special tokens are for."""
    match kind:
        case "vocab.json":
            return read_vocab_merges(path, _beside(path, "merges.txt"))
        case "merges.txt":
            return read_vocab_merges(_beside(path, "vocab.json"), path)
        case "llama2c":
            return read_llama2c_vocabulary(path)
        case "sentencepiece":
            return read_spiece_model(path)
        case "ranks":
            return read_tiktoken(path, pattern=rules.pattern, special_tokens=rules.special_tokens)
        case _:
            return _bert(path, settings)


def _bert(path: Path, settings: Mapping[str, object]) -> TokenizerParts:
    tokens = read_vocab_txt(path)
    known = set(tokens)
    if not {"[CLS]", "[SEP]"} <= known:
        raise ValueError(
            f"the file has no [CLS] and [SEP]; expected the vocab.txt of a BERT, which has "
            f"{', '.join(SPECIAL_TOKENS)}"
        )
    # a cased vocabulary has capital letters; transformers writes it down where it knows
    is_lowercase = not any(token.isalpha() and token != token.lower() for token in known)
    lowercase = settings.get("do_lower_case", is_lowercase)
    strips = settings.get("strip_accents")
    return bert_parts(
        tokens,
        lowercase=bool(lowercase),
        strip_accents=None if strips is None else bool(strips),
        handle_chinese_chars=bool(settings.get("tokenize_chinese_chars", True)),
    )


def _beside(path: Path, name: str) -> Path:
    """The other file of two."""
    other = path.with_name(name)
    if not other.is_file():
        raise ValueError(f"there is no {name} beside it; expected vocab.json with merges.txt")
    return other


def _is_ranks(head: bytes) -> bool:
    """Whether lines are ranks, of the first few at least half: one may be damaged."""
    lines = [line for line in head.split(b"\n")[:_FEW_LINES] if line.strip()]
    found = sum(map(_is_rank, lines))
    return found > 0 and 2 * found >= len(lines)


def _is_rank(line: bytes) -> bool:
    cells = line.split()
    return len(cells) == 2 and cells[1].isdigit() and len(cells[0]) % 4 == 0


def _is_text(head: bytes) -> bool:
    return b"\0" not in head and not any(byte < 9 for byte in head[:256])
