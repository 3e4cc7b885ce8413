"""Ids of a text that comes in parts, long before its end.

A text can be cut where a space follows what is no white space: no piece and no added token crosses
such a place, so what lies before it has the ids that it has in the whole text.
"""

from typing import Literal

from weldlm.tokenizer.arguments import require_text
from weldlm.tokenizer.bert import BertNormalizer, BertPretokenizer
from weldlm.tokenizer.bpe import Pattern, PatternSequence
from weldlm.tokenizer.codec import Codec
from weldlm.tokenizer.parts import TokenizerParts
from weldlm.tokenizer.sentencepiece import MetaspaceCutter, SpieceNormalizer
from weldlm.tokenizer.special_policy import SpecialTokens, special_policy

__all__ = ["EncodeStream"]

# what becomes of the space at a cut: it goes into the part behind it, is dropped, or no cut is safe
Cuts = Literal["before space", "behind space", "nowhere"]


class EncodeStream:
    """Encodes a text part by part; all ids, joined, are those of the whole text, without template.

    Where a tokenizer cannot be cut anywhere, all ids come with `flush`.

    Example:
        stream = EncodeStream(tokenizer)
        for part in parts:
            ids += stream.push(part)
        ids += stream.flush()
    """

    def __init__(
        self,
        tokenizer: Codec,
        *,
        allowed_special: SpecialTokens = (),
        disallowed_special: SpecialTokens = "all",
    ) -> None:
        self._tokenizer = tokenizer
        self._allowed, self._disallowed = allowed_special, disallowed_special
        special_policy(tokenizer.special_tokens, allowed_special, disallowed_special)
        self._cuts = _cuts(tokenizer.parts)
        self._spaced = [
            token.content for token in tokenizer.parts.added_tokens if " " in token.content[1:]
        ]
        # what a decision about a place may depend on: text that a token with spaces needs
        self._reach = 2 + max(map(len, self._spaced), default=0)
        self._held: list[str] = []  # text without a cut
        self._text = ""  # behind it
        self._searched = 0  # there is no cut before this place of `_text`
        self._is_start = True

    def push(self, text: str) -> list[int]:
        """Returns the ids that are final with more text."""
        require_text(text)
        if self._cuts == "nowhere":
            self._held.append(text)
            return []
        self._text += text
        place = self._last_cut()
        if place == 0:
            self._hold()
            return []
        self._searched = 0
        head, self._text = self._text[:place], self._text[place:]
        if self._cuts == "behind space":
            self._text = self._text[1:]
        return self._encode(self._take(head))

    def flush(self) -> list[int]:
        """Ends the text: returns the ids that were held back, and begins anew."""
        text, self._text = self._take(self._text), ""
        self._searched = 0
        ids = self._encode(text)
        self._is_start = True
        return ids

    def _hold(self) -> None:
        """Puts away what no later decision needs, so that small parts cost no more than large."""
        self._searched = max(0, len(self._text) - self._reach)
        if len(self._text) > 4 * self._reach:
            kept = 2 * self._reach  # a decision at the first place to search looks back, too
            self._held.append(self._text[:-kept])
            self._text = self._text[-kept:]
            self._searched = kept - self._reach

    def _take(self, text: str) -> str:
        """All that is held, and `text` behind it."""
        whole = "".join((*self._held, text))
        self._held.clear()
        return whole

    def _encode(self, text: str) -> list[int]:
        ids = self._tokenizer.encode_part(
            text,
            is_start=self._is_start,
            allowed_special=self._allowed,
            disallowed_special=self._disallowed,
        )
        self._is_start = False
        return ids

    def _last_cut(self) -> int:
        """The last place to cut, 0 if there is none; the text behind it may still grow."""
        # a space that goes with the cut needs text behind it, or it would be lost at the end
        place = len(self._text) - (self._cuts == "behind space")
        while (place := self._text.rfind(" ", self._searched, place)) > 0:
            before = self._text[place - 1]
            # U+2581 stands for a space, and is dropped at the end of a text
            if not before.isspace() and before != "\u2581" and self._is_outside_tokens(place):
                return place
        return 0

    def _is_outside_tokens(self, place: int) -> bool:
        for content in self._spaced:
            first = max(0, place - len(content) + 1)
            for begin in range(first, place):
                behind = self._text[begin : begin + len(content)]
                if content.startswith(behind):
                    return False
        return True


def _cuts(parts: TokenizerParts) -> Cuts:
    added_tokens = parts.added_tokens
    if parts.rewriters or any(t.strips_right or t.is_single_word for t in added_tokens):
        return "nowhere"
    match parts.normalizers, parts.pretokenizer:
        case (), Pattern() | PatternSequence():
            return "before space"
        case (BertNormalizer(),) | (), BertPretokenizer():
            return "before space"
        case (SpieceNormalizer() as spiece,), MetaspaceCutter():
            if spiece.treat_whitespace_as_suffix or not spiece.escape_whitespaces:
                return "nowhere"
            if spiece.add_dummy_prefix:
                return "before space" if spiece.remove_extra_whitespaces else "behind space"
            return "nowhere" if spiece.remove_extra_whitespaces else "before space"
    return "nowhere"
