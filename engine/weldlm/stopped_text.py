"""Text of a sequence as it grows token by token, up to the first stop text."""

from weldlm.tokenizer import DecodeStream, Tokenizer

__all__ = ["StoppedText"]


class StoppedText:
    """Decodes the tokens of one sequence and cuts them at the first stop text."""

    def __init__(self, tokenizer: Tokenizer | None, stop: tuple[str, ...]) -> None:
        if tokenizer is None and stop:
            raise ValueError(f"stop is {stop!r}, but there is no tokenizer; use stop_ids")
        self.is_stopped = False
        self._decoder = None if tokenizer is None else DecodeStream(tokenizer)
        # a model's vocabulary may be padded: ids behind the tokenizer's have no text
        self._num_spelled = 0 if tokenizer is None else tokenizer.vocab_size
        self._stop = stop
        self._held = ""  # may turn out to be the beginning of a stop text

    def push(self, token_id: int, *, may_stop: bool = True) -> str:
        """Returns the text that is final with one more token.

        A stop text that is complete by a token that may not stop, ends nothing.
        """
        if self._decoder is None or self.is_stopped or token_id >= self._num_spelled:
            return ""
        if not may_stop:
            return self._decoder.step(token_id)
        text = self._cut(self._held + self._decoder.step(token_id))
        num_held = 0 if self.is_stopped else _num_held(text, self._stop)
        self._held = text[len(text) - num_held :]
        return text[: len(text) - num_held]

    def finish(self) -> str:
        """Returns the text that was held back, after the last token."""
        if self._decoder is None or self.is_stopped:
            return ""
        return self._cut(self._held + self._decoder.flush())

    def _cut(self, text: str) -> str:
        """Ends at the stop text that is complete first, so that token borders do not matter."""
        found = [
            (text.find(stop) + len(stop), text.find(stop)) for stop in self._stop if stop in text
        ]
        self.is_stopped = bool(found)
        return text[: min(found)[1]] if found else text


def _num_held(text: str, stop: tuple[str, ...]) -> int:
    """Length of the longest end of `text` that one of `stop` begins with."""
    lengths = range(min(len(text), max(map(len, stop), default=1) - 1), 0, -1)
    return next(
        (length for length in lengths if any(one.startswith(text[-length:]) for one in stop)), 0
    )
