"""Conversation: messages and answers, each of which begins where the cache left off.

All turns go through one engine, whose shared prefixes keep what was said before from being computed
again.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from weldlm.atomic_file import replace_text
from weldlm.batch_limits import BatchLimits
from weldlm.chat_prompt import encode_chat
from weldlm.engine import Engine, GenerativeModel
from weldlm.generation_request import Request
from weldlm.sampling_settings import SamplingSettings
from weldlm.tokenizer import Tokenizer

__all__ = ["Conversation"]

_LENGTH = 4_096  # of a conversation, where nobody gives it


class Conversation:
    """A user and a model in turn."""

    def __init__(
        self,
        model: GenerativeModel,
        tokenizer: Tokenizer,
        settings: SamplingSettings,
        *,
        system: str | None = None,
        limits: BatchLimits | None = None,
    ) -> None:
        """Begins without a message but that of the system.

        Args:
            model: a `CausalLM`.
            tokenizer: the model's, with a chat template.
            settings: of each answer.
            system: says how to answer; the template's own message where None.
            limits: whose `max_length` is of all messages and the answer under way, 4096 where
                None, less where the model's context is shorter.

        Raises:
            ValueError: there is no chat template, or the settings do not stream.
        """
        if not settings.is_streamed or settings.n > 1:
            raise ValueError("n, best_of or num_beams is above 1; expected 1 in a conversation")
        self._config, self._tokenizer, self._settings = model.config, tokenizer, settings
        limits = BatchLimits(max_length=_LENGTH) if limits is None else limits
        self._length = min(limits.max_length or _LENGTH, model.config.context_length)
        self.system = system
        self.reset()
        encode_chat(model.config, tokenizer, [{"role": "user", "content": "a"}])  # has a template
        self._engine = Engine(
            model, tokenizer, replace(limits, batch_size=1, max_length=self._length)
        )
        self._num_turns = 0

    def reset(self, *, system: str | None = None) -> None:
        """Forgets what was said; the system message stays unless another is given."""
        self.system = self.system if system is None else system
        first = [] if self.system is None else [{"role": "system", "content": self.system}]
        self.messages: list[dict[str, str]] = first

    def answer(self, text: str, *, stop: Callable[[], bool] = lambda: False) -> Iterator[str]:
        """Yields the answer to a message piece by piece; both join the messages.

        Args:
            text: of the user.
            stop: asked between tokens; True ends the answer where it is.

        Raises:
            ValueError: the conversation has become too long; the message does not join it.
        """
        asked = [*self.messages, {"role": "user", "content": text}]
        ids = encode_chat(self._config, self._tokenizer, asked)
        room = self._length - len(ids)
        if room < 1:
            raise ValueError(
                f"the conversation has {len(ids)} tokens; expected fewer than {self._length}"
            )
        settings = replace(self._settings, max_tokens=min(self._settings.max_tokens, room))
        self._num_turns += 1
        self._engine.add(
            Request(id=self._num_turns, ids=ids, settings=settings, row_id=self._num_turns)
        )
        pieces: list[str] = []
        try:
            while self._engine.has_work and not stop():
                for event in self._engine.step():
                    pieces.append(event.text)
                    yield event.text
        finally:
            self._engine.abort(self._num_turns)
        self.messages = [*asked, {"role": "assistant", "content": "".join(pieces)}]

    def save(self, path: Path) -> None:
        """Writes the messages as a row of training data."""
        replace_text(path, json.dumps({"messages": self.messages}, ensure_ascii=False) + "\n")
