"""The tokenizer: a thin, typed surface over the C++ core in csrc/tokenizer."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from weldlm import _tokenizer
from weldlm.tokenizer.parts import BpeParts
from weldlm.tokenizer.tokenizer_json import read_tokenizer_json, write_tokenizer_json
from weldlm.tokenizer.training import available_threads, train_bpe

__all__ = ["RaggedIds", "Tokenizer"]

END_OF_TEXT = "<|endoftext|>"

SpecialTokens: TypeAlias = Collection[str] | Literal["all"]


@dataclass(frozen=True, slots=True, eq=False)
class RaggedIds:
    """Ids of several texts end to end: those of text i are ids[offsets[i]:offsets[i + 1]]."""

    ids: NDArray[np.uint32]  # [ids]
    offsets: NDArray[np.int64]  # [texts + 1]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.uint32]:
        """The ids of one text, without a copy."""
        i = range(len(self))[index]
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    def __iter__(self) -> Iterator[NDArray[np.uint32]]:
        return (self[i] for i in range(len(self)))


class Tokenizer:
    """Byte-level BPE with the GPT-2 pattern. Threads may share it; a fork is safe at any time."""

    def __init__(self, parts: BpeParts) -> None:
        """
        Raises:
            ValueError: a byte has no token, a merge does not join its parts, an added token
                is empty, repeated or overlong.
        """
        self._added_tokens = parts.added_tokens
        self._core = _tokenizer.ByteLevelBpe(
            parts.tokens,
            parts.merges,
            [(t.content, t.id, t.is_special, t.is_normalized) for t in parts.added_tokens],
        )
        self._added_ids = {t.content: t.id for t in parts.added_tokens}
        self._special_tokens = {t.content: t.id for t in parts.added_tokens if t.is_special}

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        *,
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        min_frequency: int = 2,
        allow_smaller: bool = False,
        num_threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Learns a vocabulary; the merges are those of the BpeTrainer of tokenizers 0.23.

        Args:
            texts: read once, in bounded batches; special tokens in them count as plain text.
            vocab_size: special tokens, 256 bytes and merged tokens.
            special_tokens: take the ids from 0.
            min_frequency: pairs that occur less often are not merged.
            allow_smaller: take as many tokens as the texts support where that is fewer.
            num_threads: default all cores; the result does not depend on it.
            progress: called now and then with the number of tokens so far and vocab_size.

        Raises:
            ValueError: the texts do not support vocab_size tokens, and allow_smaller is not set.
        """
        return cls(
            train_bpe(
                texts,
                vocab_size=vocab_size,
                special_tokens=special_tokens,
                min_frequency=min_frequency,
                allow_smaller=allow_smaller,
                num_threads=num_threads,
                progress=progress,
            )
        )

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Reads a tokenizer.json of byte-level BPE with the GPT-2 pattern.

        Raises:
            ValueError: the file is damaged or asks for something else, which is named.
        """
        try:
            return cls(read_tokenizer_json(Path(path)))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Reads the tokenizer.json in the folder of a model."""
        path = Path(folder) / "tokenizer.json"
        if not path.is_file():
            raise FileNotFoundError(f"{folder} has no tokenizer.json, expected one beside a model")
        return cls.from_file(path)

    def save(self, path: str | Path) -> None:
        """Writes a tokenizer.json that the tokenizers library reads with equal ids."""
        write_tokenizer_json(Path(path), self.parts)

    @property
    def parts(self) -> BpeParts:
        """The vocabulary, merges and added tokens: `Tokenizer(tokenizer.parts)` is a copy."""
        return BpeParts(self._core.tokens(), self._core.merges(), self._added_tokens)

    @property
    def vocab_size(self) -> int:
        return self._core.vocab_size

    @property
    def special_tokens(self) -> dict[str, int]:
        """Ids of the special tokens."""
        return dict(self._special_tokens)

    @property
    def eos_id(self) -> int | None:
        """The id of <|endoftext|> where that is a special token."""
        return self._special_tokens.get(END_OF_TEXT)

    def token_to_id(self, token: str | bytes) -> int | None:
        """The id of the token with these bytes, None if there is none."""
        if isinstance(token, bytes):
            return self._core.token_to_id(token)
        added_id = self._added_ids.get(token)
        return self._core.token_to_id(token.encode()) if added_id is None else added_id

    def id_to_token(self, id: int) -> bytes:
        """The bytes of a token, which may be a part of a character."""
        return self._core.id_to_token(id)

    def encode(
        self,
        text: str,
        *,
        allowed_special: SpecialTokens = (),
        disallowed_special: SpecialTokens = "all",
    ) -> list[int]:
        """Encodes a text. Lone surrogates count as U+FFFD.

        Args:
            allowed_special: special tokens that are encoded as such, or "all".
            disallowed_special: special tokens that must not be in the text, "all" for all that
                are not allowed. Those that are neither are plain text.

        Raises:
            ValueError: a disallowed special token is in the text.
        """
        allowed, disallowed = self._policy(allowed_special, disallowed_special)
        return self._core.encode(text, allowed, disallowed)

    def encode_ordinary(self, text: str) -> list[int]:
        """Encodes a text in which special tokens are plain text."""
        return self._core.encode(text, (), ())

    def encode_batch(
        self,
        texts: Iterable[str],
        *,
        num_threads: int | None = None,
        allowed_special: SpecialTokens = (),
        disallowed_special: SpecialTokens = "all",
    ) -> RaggedIds:
        """Encodes texts on several threads (default all cores), each as `encode` does."""
        if isinstance(texts, str):
            raise TypeError("texts is one str, expected several: pass [texts] or call encode")
        allowed, disallowed = self._policy(allowed_special, disallowed_special)
        threads = available_threads(num_threads)
        return RaggedIds(*self._core.encode_batch(texts, threads, allowed, disallowed))

    def decode(self, ids: Iterable[int], *, errors: str = "replace") -> str:
        """The text of the ids; `errors` says what becomes of bytes that are not UTF-8.

        Raises:
            ValueError: an id is not in the vocabulary.
        """
        return self._core.decode_bytes(ids).decode("utf-8", errors)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return self._core.decode_bytes(ids)

    def decode_batch(
        self, batch: RaggedIds | Iterable[Iterable[int]], *, errors: str = "replace"
    ) -> list[str]:
        return [self.decode(ids, errors=errors) for ids in batch]

    def clear_cache(self) -> None:
        """Gives back the memory of the word caches, at most a few MiB for each thread."""
        self._core.clear_cache()

    def _policy(
        self, allowed_special: SpecialTokens, disallowed_special: SpecialTokens
    ) -> tuple[list[int], list[int]]:
        if allowed_special == () and disallowed_special == "all":
            return [], list(self._special_tokens.values())
        allowed = self._ids_of("allowed_special", allowed_special)
        disallowed = self._ids_of("disallowed_special", disallowed_special)
        if disallowed_special == "all":
            disallowed = sorted(set(disallowed) - set(allowed))
        return allowed, disallowed

    def _ids_of(self, argument: str, tokens: SpecialTokens) -> list[int]:
        if isinstance(tokens, str):
            if tokens != "all":
                raise TypeError(
                    f"{argument} is the str {tokens!r}, expected 'all' or {{{tokens!r}}}"
                )
            return list(self._special_tokens.values())
        for token in tokens:
            if token not in self._special_tokens:
                raise ValueError(
                    f"{argument} holds {token!r}, which is no special token; expected some of "
                    f"{sorted(self._special_tokens)}"
                )
        return [self._special_tokens[token] for token in tokens]

    def __reduce__(self) -> tuple[type[Self], tuple[BpeParts]]:
        return type(self), (self.parts,)

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, special_tokens={self._special_tokens})"
