"""Text from ids that come one by one, never with half a character."""

import codecs

from weldlm.tokenizer.codec import Codec

__all__ = ["DecodeStream"]


class DecodeStream:
    """Decodes one id at a time; all that it returns, joined, is `tokenizer.decode` of all ids.

    Example:
        stream = DecodeStream(tokenizer)
        for id in ids:
            print(stream.step(id), end="")
        print(stream.flush())
    """

    def __init__(self, tokenizer: Codec) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_first = True

    def step(self, id: int) -> str:
        """Returns the text that is complete with `id`; bytes of half a character are held back."""
        token = self._tokenizer.text_of(id, is_first=self._is_first)
        self._is_first = self._is_first and self._tokenizer.is_silent(id)
        return self._decoder.decode(token)

    def flush(self) -> str:
        """Ends the text: returns U+FFFD for what is held back, and begins anew."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        self._is_first = True
        return text
