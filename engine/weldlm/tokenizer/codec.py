"""Text to ids and back: a thin, typed surface over the C++ core in csrc/tokenizer."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from weldlm import _tokenizer
from weldlm.tokenizer.arguments import (
    require_integer,
    require_iterable,
    require_text,
    segment_rows,
)
from weldlm.tokenizer.compiled import Compiled, compile_parts, normalized_contents
from weldlm.tokenizer.located import LocatedIds, character_numbers, spaces_around, trimmed
from weldlm.tokenizer.parts import AddedToken, TokenizerParts
from weldlm.tokenizer.ragged import RaggedIds
from weldlm.tokenizer.special_policy import SpecialTokens, special_policy
from weldlm.tokenizer.training import available_threads

__all__ = ["Codec", "require_dtype"]


def require_dtype(dtype: DTypeLike, vocab_size: int) -> None:
    """Raises ValueError unless every id of the vocabulary fits into the integer dtype."""
    kind = np.dtype(dtype)
    if kind.kind not in "iu" or np.iinfo(kind).max < vocab_size - 1:
        raise ValueError(
            f"dtype is {kind}; expected integers up to {vocab_size - 1}, the last id of the "
            "vocabulary"
        )


class Codec:
    """Encodes and decodes. Threads may share it; a fork is safe at any time."""

    def __init__(self, parts: TokenizerParts | Compiled) -> None:
        """
        Raises:
            ValueError: the parts do not fit together: a byte has no token, a merge does not join
                its parts, an added token is empty, repeated or overlong.
        """
        compiled = parts if isinstance(parts, Compiled) else compile_parts(parts)
        self._parts = parts = compiled.parts
        self._vocabulary = compiled.vocabulary
        self._decoder = compiled.decoder
        for token in parts.added_tokens:
            self._check_added(token)
        self._encoder = _tokenizer.Encoder(
            compiled.model,
            [normalizer.build() for normalizer in parts.normalizers],
            [rewriter.build() for rewriter in parts.rewriters],
            None if parts.pretokenizer is None else parts.pretokenizer.build(),
            [(t.content, t.id, t.flags) for t in parts.added_tokens],
        )
        # bound once: these are called on short texts
        self._encode = self._encoder.encode
        self._encode_ordinary = self._encoder.encode_ordinary
        self._encode_refusing = self._encoder.encode_refusing
        self._count = self._encoder.count
        self._decode = self._decoder.decode
        self._decode_text = self._decoder.decode_text
        self._added_ids = {t.content: t.id for t in parts.added_tokens}
        self._special_tokens = {t.content: t.id for t in parts.added_tokens if t.is_special}
        self._before, self._after = self._surroundings()

    @property
    def parts(self) -> TokenizerParts:
        """What it is made of: `Tokenizer(tokenizer.parts)` is a copy."""
        if not self._parts.tokens:
            self._parts = replace(self._parts, tokens=self._vocabulary.tokens())
        return self._parts

    @property
    def vocab_size(self) -> int:
        return len(self._vocabulary)

    @property
    def special_tokens(self) -> dict[str, int]:
        """Ids of the special tokens."""
        return dict(self._special_tokens)

    def token_to_id(self, token: str | bytes) -> int | None:
        """The id of the token with these bytes, None if there is none."""
        if isinstance(token, bytes):
            return self._vocabulary.id(token)
        if not isinstance(token, str):
            raise TypeError(f"token is a {type(token).__name__}, expected str or bytes")
        added_id = self._added_ids.get(token)
        if added_id is not None:
            return added_id
        return self._vocabulary.id(token.encode("utf-8", "surrogatepass"))

    def id_to_token(self, id: int) -> bytes:
        """The bytes of a token, which may be a part of a character."""
        return self._vocabulary.token(id)

    def encode(
        self,
        text: str,
        *,
        add_special_tokens: bool = True,
        allowed_special: SpecialTokens = (),
        disallowed_special: SpecialTokens = "all",
    ) -> list[int]:
        """Encodes a text. Lone surrogates count as U+FFFD.

        Args:
            add_special_tokens: put the template's special tokens around it, such as [CLS].
            allowed_special: special tokens in the text that are encoded as such, or "all".
            disallowed_special: special tokens that must not be in the text, "all" for all that
                are not allowed. Those that are neither are plain text.

        Raises:
            ValueError: a disallowed special token is in the text.
        """
        before, after = (self._before, self._after) if add_special_tokens else ((), ())
        if allowed_special == () and disallowed_special == "all":
            return self._encode_refusing(text, before, after)
        policy = special_policy(self._special_tokens, allowed_special, disallowed_special)
        return self._encode(text, *policy, True, before, after)

    def encode_ordinary(self, text: str) -> list[int]:
        """Encodes a text in which special tokens are plain text; adds none."""
        return self._encode_ordinary(text)

    def encode_part(
        self,
        text: str,
        *,
        is_start: bool,
        allowed_special: SpecialTokens = (),
        disallowed_special: SpecialTokens = "all",
    ) -> list[int]:
        """Encodes a part of a text, without the template; `is_start` where the text begins."""
        policy = special_policy(self._special_tokens, allowed_special, disallowed_special)
        return self._encode(text, *policy, is_start)

    def encode_to_numpy(
        self,
        text: str,
        *,
        dtype: DTypeLike = np.uint32,
        add_special_tokens: bool = True,
        allowed_special: SpecialTokens = (),
        disallowed_special: SpecialTokens = "all",
    ) -> NDArray[np.integer]:
        """Encodes a text as `encode` does, into an array of any integer dtype that holds the ids.

        Raises:
            ValueError: the dtype is too small for the vocabulary.
        """
        require_dtype(dtype, self.vocab_size)
        ids = self.encode_batch(
            (text,),
            num_threads=1,
            dtype=np.uint16 if np.dtype(dtype) == np.uint16 else np.uint32,
            add_special_tokens=add_special_tokens,
            allowed_special=allowed_special,
            disallowed_special=disallowed_special,
        ).ids
        return ids.astype(dtype, copy=False)

    def encode_batch(
        self,
        texts: Iterable[str],
        *,
        num_threads: int | None = None,
        dtype: DTypeLike = np.uint32,
        frame_id: int | None = None,
        add_special_tokens: bool = True,
        allowed_special: SpecialTokens = (),
        disallowed_special: SpecialTokens = "all",
    ) -> RaggedIds:
        """Encodes texts on several threads (default all cores), each as `encode` does.

        Args:
            dtype: of the ids: uint32, or uint16 where the vocabulary has no more than 65,536.
            frame_id: put before and behind each text and its special tokens.

        Raises:
            ValueError: another dtype, an id out of range, a disallowed special token in a text.
        """
        if isinstance(texts, str):
            raise TypeError("texts is one str, expected several: pass [texts] or call encode")
        require_iterable("texts", texts, "several str")
        policy = special_policy(self._special_tokens, allowed_special, disallowed_special)
        threads = available_threads(num_threads)
        require_dtype(dtype, self.vocab_size)
        is_narrow = np.dtype(dtype) == np.uint16
        if not is_narrow and np.dtype(dtype) != np.uint32:
            raise ValueError(f"dtype is {np.dtype(dtype)}; expected uint16 or uint32")
        if frame_id is not None:
            self._vocabulary.token(frame_id)  # refuses an id out of range
        frame = () if frame_id is None else (frame_id,)
        before, after = (self._before, self._after) if add_special_tokens else ((), ())
        around = (frame + before, after + frame)
        return RaggedIds(*self._encoder.encode_batch(texts, threads, *policy, *around, is_narrow))

    def encode_with_offsets(
        self,
        text: str,
        *,
        unit: Literal["character", "byte"] = "character",
        add_special_tokens: bool = True,
        allowed_special: SpecialTokens = (),
        disallowed_special: SpecialTokens = "all",
    ) -> LocatedIds:
        """Encodes a text as `encode` does, with the place of each token in it.

        A token that is a part of a character has the place of the whole character.

        Args:
            unit: of the offsets: characters of `text`, or bytes of its UTF-8.

        Raises:
            ValueError: a disallowed special token is in the text, or the unit is another.
        """
        located = self.locate(
            text, unit=unit, allowed_special=allowed_special, disallowed_special=disallowed_special
        )
        ids, offsets = located.ids, self.trim_offsets(located.ids, located.offsets)
        before, after = (self._before, self._after) if add_special_tokens else ((), ())
        nowhere = [np.zeros((len(around), 2), dtype=np.int64) for around in (before, after)]
        return LocatedIds(
            [*before, *ids, *after], np.concatenate((nowhere[0], offsets, nowhere[1]))
        )

    def locate(
        self,
        text: str,
        *,
        unit: Literal["character", "byte"] = "character",
        allowed_special: SpecialTokens = (),
        disallowed_special: SpecialTokens = "all",
    ) -> LocatedIds:
        """The ids of a text without the template, with all that each token stands for."""
        require_text(text)
        if unit not in ("character", "byte"):
            raise ValueError(f"unit is {unit!r}; expected 'character' or 'byte'")
        policy = special_policy(self._special_tokens, allowed_special, disallowed_special)
        ids, offsets = self._encoder.encode_located(text, *policy)
        return LocatedIds(ids, character_numbers(text)[offsets] if unit == "character" else offsets)

    def trim_offsets(self, ids: Sequence[int], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """The offsets without spaces around tokens, if the file asks for that.

        Args:
            ids: of a text, or of a window of it: the first may begin with a space of its own.
            offsets: [ids, 2], as `locate` gives them.
        """
        trimming = self._parts.offset_trimming
        if trimming is None:
            return offsets
        return trimmed(offsets, self._spaces[ids], has_prefix_space=trimming.has_prefix_space)

    def encode_segments(self, segments: Iterable[tuple[str, bool]]) -> list[int]:
        """Encodes (text, is_trusted) segments as one text, without the template.

        Special tokens take effect in trusted segments only, so a user's text between the parts of
        a prompt cannot forge any; no special token crosses a border.
        """
        return self._encoder.encode_segments(*segment_rows(segments))

    def count(self, text: str, *, add_special_tokens: bool = False) -> int:
        """The number of tokens of a text in which special tokens are plain text."""
        num_added = len(self._before) + len(self._after) if add_special_tokens else 0
        return self._count(text) + num_added

    def truncate(self, text: str, max_tokens: int) -> str:
        """The longest beginning of whole tokens that has at most `max_tokens` tokens."""
        max_tokens = require_integer("max_tokens", max_tokens)
        if max_tokens < 0:
            raise ValueError(f"max_tokens is {max_tokens}; expected at least 0")
        located = self.locate(text, disallowed_special=())
        kept = max_tokens
        while len(located.ids) > kept:
            # a token that is a part of a character does not end where the character does
            end = int(located.offsets[kept - 1, 1]) if kept > 0 else 0
            if kept > 0 and located.offsets[kept, 0] < end:
                end = int(located.offsets[kept, 0])
            if self.count(text[:end]) <= max_tokens:
                return text[:end]
            kept -= 1
        return text

    def decode(
        self, ids: Iterable[int], *, skip_special_tokens: bool = False, errors: str = "replace"
    ) -> str:
        """The text of the ids; `errors` says what becomes of bytes that are not UTF-8.

        Raises:
            ValueError: an id is not in the vocabulary.
        """
        return self._decode_text(ids, self._is_skipped if skip_special_tokens else None, errors)

    def decode_bytes(self, ids: Iterable[int], *, skip_special_tokens: bool = False) -> bytes:
        """The bytes of the ids, which need not be whole characters."""
        return self._decode(ids, self._is_skipped if skip_special_tokens else None)

    def decode_batch(
        self,
        batch: RaggedIds | Iterable[Iterable[int]],
        *,
        skip_special_tokens: bool = False,
        errors: str = "replace",
    ) -> list[str]:
        """The text of each row of ids."""
        return [
            self.decode(ids, skip_special_tokens=skip_special_tokens, errors=errors)
            for ids in batch
        ]

    def text_of(self, id: int, *, is_first: bool) -> bytes:
        """What a token adds to a text that it begins, or that it goes on with."""
        return self._decoder.text(id, is_first)

    def is_silent(self, id: int) -> bool:
        """Whether a token adds nothing, and what follows it still begins the text."""
        return self._decoder.is_silent(id)

    def clear_cache(self) -> None:
        """Gives back the memory of the word caches, at most a few MiB for each thread."""
        self._encoder.clear_cache()

    @cached_property
    def _is_skipped(self) -> bytes:
        """1 for special tokens, 0 for those whose text the normalizer changes, as in tokenizers."""
        flags = bytearray(self.vocab_size)
        for token, content in normalized_contents(self._parts).items():
            if token.is_special and content == token.content:
                flags[token.id] = 1
        return bytes(flags)

    @cached_property
    def _spaces(self) -> NDArray[np.int64]:
        added = {token_id: content for content, token_id in self._added_ids.items()}
        return spaces_around(self.parts.tokens, added)

    def _check_added(self, token: AddedToken) -> None:
        if self._vocabulary.token(token.id) != token.content.encode("utf-8", "surrogatepass"):
            raise ValueError(
                f"added token {token.content!r} has id {token.id}, whose bytes in the vocabulary "
                "differ"
            )

    def _surroundings(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids before and after a single text."""
        sources = [piece.source for piece in self._parts.template.single]
        if sources.count("A") != 1 or "B" in sources:
            raise ValueError("the template of a single text needs that text exactly once")
        place = sources.index("A")
        before = [i for source in sources[:place] for i in source if isinstance(i, int)]
        after = [i for source in sources[place + 1 :] for i in source if isinstance(i, int)]
        for token_id in before + after:
            self._vocabulary.token(token_id)
        return tuple(before), tuple(after)
