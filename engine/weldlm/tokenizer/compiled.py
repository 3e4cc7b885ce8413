"""Parts of a tokenizer with the C++ tables that are made from them, which is what takes time."""

from dataclasses import dataclass

from weldlm import _tokenizer
from weldlm.tokenizer.parts import TokenizerParts

__all__ = ["Compiled", "compile_parts"]


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
    vocabulary = _tokenizer.Vocabulary(parts.tokens)
    tables = parts.decoder.tables(_decoded(parts))
    decoder = _tokenizer.Decoder(
        tables.texts, tables.first_texts, tables.silent_ids, tables.first_until_text
    )
    return Compiled(parts, vocabulary, decoder, parts.model.build(vocabulary))


def _decoded(parts: TokenizerParts) -> list[bytes]:
    """The tokens as text shows them: added ones that match normalized text are normalized."""
    normalizers = [normalizer.build() for normalizer in parts.normalizers]
    tokens = list(parts.tokens)
    for token in parts.added_tokens:
        if token.is_normalized and 0 <= token.id < len(tokens):
            content = token.content
            for normalizer in normalizers:
                content = normalizer.normalize(content)
            tokens[token.id] = content.encode("utf-8", "surrogatepass")
    return tokens
