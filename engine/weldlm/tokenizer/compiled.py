"""Parts of a tokenizer with the C++ tables that are made from them, which is what takes time."""

from dataclasses import dataclass

from weldlm import _tokenizer
from weldlm.tokenizer.parts import AddedToken, TokenizerParts

__all__ = ["Compiled", "compile_parts", "normalized_contents"]

_MOST_TOKEN_BYTES = 1 << 16  # a longer one takes much memory for what no text holds


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """Parts and tables."""

    parts: TokenizerParts  # tokens may be left out: the vocabulary has them
    vocabulary: _tokenizer.Vocabulary
    decoder: _tokenizer.Decoder
    model: _tokenizer.Model


def compile_parts(parts: TokenizerParts) -> Compiled:
    """Builds the tables.

    Raises:
        ValueError: the parts do not fit together.
    """
    for token_id, token in enumerate(parts.tokens):
        if len(token) > _MOST_TOKEN_BYTES:
            raise ValueError(
                f"token {token_id} has {len(token):,} bytes; expected at most "
                f"{_MOST_TOKEN_BYTES:,}; leave it out"
            )
    vocabulary = _tokenizer.Vocabulary(parts.tokens)
    tables = parts.decoder.tables(_decoded(parts))
    decoder = _tokenizer.Decoder(
        tables.texts, tables.first_texts, tables.silent_ids, tables.first_until_text
    )
    return Compiled(parts, vocabulary, decoder, parts.model.build(vocabulary))


def _decoded(parts: TokenizerParts) -> list[bytes]:
    """The tokens as text shows them: added ones that match normalized text are normalized."""
    tokens, contents = list(parts.tokens), normalized_contents(parts)
    for token in parts.added_tokens:
        if token.is_normalized and 0 <= token.id < len(tokens):
            tokens[token.id] = contents[token].encode("utf-8", "surrogatepass")
    return tokens


def normalized_contents(parts: TokenizerParts) -> dict[AddedToken, str]:
    """The text that each added token matches, and is decoded to."""
    normalizers = [normalizer.build() for normalizer in parts.normalizers]
    contents: dict[AddedToken, str] = {}
    for token in parts.added_tokens:
        contents[token] = token.content
        for normalizer in normalizers if token.is_normalized else ():
            contents[token] = normalizer.normalize(contents[token])
    return contents
