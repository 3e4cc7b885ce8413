"""vocab.txt of BERT: one token a line, whose number is the id.

As in the tokenizers library, white space at the end of a line is no part of the token. Where a
token stands in two lines, that library silently takes the later id and leaves the other unused;
here such a file is refused.
"""

from collections.abc import Sequence
from pathlib import Path

from weldlm.atomic_file import replace_text
from weldlm.tokenizer.bert import WordPieceModel
from weldlm.tokenizer.parts import TokenizerParts

__all__ = ["read_vocab_txt", "vocab_txt_tokens", "write_vocab_txt"]

# the White_Space property; str.rstrip() also takes U+001C to U+001F, which are none
_WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B)))
_WHITE_SPACE += "\u2028\u2029\u202f\u205f\u3000"


def read_vocab_txt(path: str | Path, *, unk_token: str = "[UNK]") -> list[str]:
    """Returns the tokens by id.

    Raises:
        ValueError: the file is not UTF-8, is empty, holds a token twice or has no unk_token;
            names the file and the line.
    """
    tokens: list[str] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(_lines(Path(path).read_bytes()), start=1):
        try:
            token = line.decode("utf-8").rstrip(_WHITE_SPACE)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}, line {number}: invalid UTF-8 at byte {error.start} of the line; "
                "expected a vocab.txt in UTF-8"
            ) from error
        if token in lines:
            raise ValueError(
                f"{path}, line {number}: the token {token!r} is also in line {lines[token]}; "
                "expected each token once, white space at the end of a line not counted"
            )
        lines[token] = number
        tokens.append(token)
    if not tokens:
        raise ValueError(f"{path}, line 1: the file is empty; expected one token a line")
    if unk_token not in lines:
        raise ValueError(
            f"{path}, line 1 to {len(tokens)}: no line is {unk_token!r}, which stands for words "
            "that cannot be spelled; add it or name another unk_token"
        )
    return tokens


def write_vocab_txt(path: str | Path, tokens: Sequence[str]) -> None:
    """Writes the file whole or not at all.

    Raises:
        ValueError: a token would be read as another one, or is there twice.
    """
    ids: dict[str, int] = {}
    for token_id, token in enumerate(tokens):
        if "\n" in token or token.rstrip(_WHITE_SPACE) != token:
            raise ValueError(
                f"token {token_id} is {token!r}: a line of vocab.txt cannot hold a line break "
                "or white space at the end; save a tokenizer.json"
            )
        if token in ids:
            raise ValueError(
                f"tokens {ids[token]} and {token_id} are both {token!r}, expected each once"
            )
        ids[token] = token_id
    replace_text(Path(path), "".join(token + "\n" for token in tokens))


def vocab_txt_tokens(parts: TokenizerParts) -> list[str]:
    """The tokens of a WordPiece vocabulary that the file can say all of.

    Raises:
        ValueError: the model is another one, or has what readers of the file do not expect.
    """
    model = parts.model
    if not isinstance(model, WordPieceModel):
        raise ValueError(f"the model is {model.algorithm}; a vocab.txt holds WordPiece")
    if (model.unk_token, model.continuing_prefix) != ("[UNK]", "##"):
        raise ValueError(
            f"unk_token is {model.unk_token!r} and the prefix {model.continuing_prefix!r}; readers "
            "of vocab.txt expect '[UNK]' and '##'"
        )
    if model.num_tokens < len(parts.tokens):
        raise ValueError(
            f"the added token {parts.tokens[model.num_tokens].decode()!r} is behind the "
            "vocabulary, where a vocab.txt has no place; save a tokenizer.json"
        )
    return [token.decode() for token in parts.tokens]


def _lines(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    return lines if lines[-1] else lines[:-1]
