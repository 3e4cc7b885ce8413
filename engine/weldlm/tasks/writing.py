"""Tasks whose answer is written: a target made of a source, or the next message of a chat."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weldlm.data.labelled_rows import Chat, SourceTarget
from weldlm.generation import BatchLimits, Completion, complete
from weldlm.heads import CausalLM, Seq2SeqLM
from weldlm.objectives import IGNORED, EncodedTexts, PromptAnswers, SourceTargets
from weldlm.packing import PackedBatch
from weldlm.prompt import Prompt, end_of_text_id, num_first_ids
from weldlm.sampling import SamplingSettings
from weldlm.task_metrics import judge_texts
from weldlm.tasks.encoding import EncodedRow, Encoding, Piece, joined
from weldlm.tasks.task import Prediction, Task
from weldlm.tokenizer.chat_segments import render_segments

__all__ = ["ChatTask", "TargetTask"]

_DIGITS = 4
_ASSISTANT = "assistant"

Messages = Sequence[Mapping[str, str]]


@dataclass(slots=True)
class _SourceTarget(Piece):
    target: list[int] | None = None  # with its end token


@dataclass(slots=True)
class _Chat(Piece):
    is_answer: list[bool] | None = None  # which ids the assistant writes
    prompt: list[int] | None = None  # what its last message answers


class _WritingTask(Task):
    def judge(
        self, rows: Sequence[EncodedRow], predictions: Sequence[Prediction]
    ) -> dict[str, float]:
        predicted = [prediction["text"] for prediction in predictions]
        return judge_texts(predicted, [self.expected(row) for row in rows])

    def expected(self, row: EncodedRow) -> str:
        """The text that the row wants."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class TargetTask(_WritingTask):
    """A target text for each source text, by an encoder-decoder."""

    encoding: Encoding
    max_tokens: int = 128  # most tokens of a target that is written

    def encode(self, row: SourceTarget) -> EncodedRow:
        source = self._ids(row.source)
        target = None if row.target is None else self._with_end(self._ids(row.target))
        return EncodedRow(row, (_SourceTarget(source, None, target),))

    def examples(self, rows: Sequence[EncodedRow]) -> SourceTargets:
        targets = EncodedTexts.of(row.pieces[0].target for row in rows)
        return SourceTargets(joined(rows), targets, _start_id(self.encoding))

    def predict(self, model: Seq2SeqLM, rows: Sequence[EncodedRow]) -> list[Prediction]:
        start_id = _start_id(self.encoding)

        def measure(row: EncodedRow, written: Sequence[int]) -> tuple[Tensor, Tensor]:
            source = PackedBatch.from_sequences([row.pieces[0].ids])
            target = PackedBatch.from_sequences([[start_id, *written[:-1]]])
            device = next(model.parameters()).device
            labels = torch.tensor(written, device=device)
            found: tuple[Tensor, Tensor] = model(source.to(device), target.to(device), labels)
            return found

        prompts = [row.pieces[0].ids for row in rows]
        return _write(self.encoding, model, prompts, self.max_tokens, rows, measure)

    def expected(self, row: EncodedRow) -> str:
        return str(row.row.target)

    def _ids(self, text: str) -> list[int]:
        encoding = self.encoding
        if encoding.too_long == "split":
            raise ValueError(
                "too_long is split; expected error or truncate for a text that has a target"
            )
        ids = encoding.texts(text, None).input_ids
        if encoding.is_too_long(len(ids)):
            cut = encoding.texts(text, None, truncation=True, max_length=encoding.most_tokens)
            ids = cut.input_ids
        return list(ids)

    def _with_end(self, ids: list[int]) -> list[int]:
        end = end_of_text_id(self.encoding.config, self.encoding.tokenizer)
        if end is None or ids[-1:] == [end]:
            return ids
        most = self.encoding.most_tokens
        return [*(ids if most is None else ids[: most - 1]), end]


@dataclass(frozen=True, slots=True)
class ChatTask(_WritingTask):
    """The next message of the assistant, by a decoder; its messages alone are learned.

    The tokenizer's chat template makes texts of chats. Where there is none, a prompt and its answer
    stand one behind the other, with the end token behind them.
    """

    encoding: Encoding
    max_tokens: int = 128  # most tokens of a message that is written

    def encode(self, row: Chat) -> EncodedRow:
        last = row.messages[-1]["role"] if row.messages else None
        asked = row.messages[:-1] if last == _ASSISTANT else row.messages
        if not asked:
            raise ValueError("the chat has no message to answer; expected one; mend it")
        prompt = self._prompt_ids(asked)
        ids, is_answer = self._learned(row.messages)
        if self.encoding.is_too_long(len(ids)):
            ids, is_answer = self._cut(ids, is_answer)
        return EncodedRow(row, (_Chat(ids, None, is_answer, prompt),))

    def examples(self, rows: Sequence[EncodedRow]) -> PromptAnswers:
        is_answer = [flag for row in rows for flag in row.pieces[0].is_answer]
        return PromptAnswers(joined(rows), np.array(is_answer, np.bool_))

    def predict(self, model: CausalLM, rows: Sequence[EncodedRow]) -> list[Prediction]:
        def measure(row: EncodedRow, written: Sequence[int]) -> tuple[Tensor, Tensor]:
            prompt = row.pieces[0].prompt
            ids = [*prompt, *written[:-1]]
            labels = [IGNORED] * (len(prompt) - 1) + list(written)
            device = next(model.parameters()).device
            batch = PackedBatch.from_sequences([ids]).to(device)
            found: tuple[Tensor, Tensor] = model(batch, torch.tensor(labels, device=device))
            return found

        prompts = [row.pieces[0].prompt for row in rows]
        return _write(self.encoding, model, prompts, self.max_tokens, rows, measure)

    def expected(self, row: EncodedRow) -> str:
        return str(row.row.messages[-1]["content"])

    def _prompt_ids(self, messages: Messages) -> list[int]:
        if self._template is None:
            return self.encoding.tokenizer.encode(messages[-1]["content"], disallowed_special=())
        return self._rendered_ids(messages, add_generation_prompt=True)

    def _learned(self, messages: Messages) -> tuple[list[int], list[bool]]:
        """The ids of a chat, and which of them are of the assistant."""
        if self._template is None:
            return self._learned_plainly(messages)
        ids = self._rendered_ids(messages, add_generation_prompt=False)
        is_answer = [False] * len(ids)
        for number, message in enumerate(messages):
            if message["role"] == _ASSISTANT:
                before = self._rendered_ids(messages[:number], add_generation_prompt=True)
                through = self._rendered_ids(messages[: number + 1], add_generation_prompt=False)
                begin, end = _common(ids, before), _common(ids, through)
                # a token or two may join with what stands behind, but no more
                if end < len(through) - 2 or begin >= end:
                    raise ValueError(
                        "the chat template writes earlier messages in another way once there are "
                        "later ones; expected one that only adds; give chats of one answer"
                    )
                is_answer[begin:end] = [True] * (end - begin)
        return ids, is_answer

    def _learned_plainly(self, messages: Messages) -> tuple[list[int], list[bool]]:
        if [message["role"] for message in messages] not in (["user"], ["user", _ASSISTANT]):
            raise ValueError(
                "the model has no chat template; expected one for a chat of several messages; give "
                "prompts with their answers"
            )
        prompt = self._prompt_ids(messages[:1])
        if len(messages) == 1:
            return prompt, [False] * len(prompt)
        tokenizer = self.encoding.tokenizer
        answer = tokenizer.encode_part(
            messages[1]["content"], is_start=False, disallowed_special=()
        )
        end = end_of_text_id(self.encoding.config, tokenizer)
        answer += [] if end is None else [end]
        return [*prompt, *answer], [False] * len(prompt) + [True] * len(answer)

    def _cut(self, ids: list[int], is_answer: list[bool]) -> tuple[list[int], list[bool]]:
        if self.encoding.too_long == "split":
            raise ValueError("too_long is split; expected error or truncate for a chat")
        most = self.encoding.most_tokens
        if any(is_answer) and not any(is_answer[:most]):
            raise ValueError(
                f"nothing of an answer lies in the first {most} tokens; shorten the prompt"
            )
        return ids[:most], is_answer[:most]

    @property
    def _template(self) -> str | None:
        return self.encoding.tokenizer.config.chat_templates.get("default")

    def _rendered_ids(self, messages: Messages, *, add_generation_prompt: bool) -> list[int]:
        tokenizer = self.encoding.tokenizer
        segments = render_segments(
            self._template or "",
            [dict(message) for message in messages],
            guarded=tokenizer.special_tokens,
            special_tokens=tokenizer.config.roles,
            add_generation_prompt=add_generation_prompt,
            variables={},
        )
        return tokenizer.encode_segments(segments)


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids both begin with."""
    return next(
        (n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def _start_id(encoding: Encoding) -> int:
    start_id = encoding.config.decoder_start_id
    if start_id is None:
        raise ValueError(
            "the model has no decoder_start_id; expected the id that its targets begin with; set "
            "decoder_start_token_id in its config.json"
        )
    return start_id


def _write(
    encoding: Encoding,
    model: Any,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    rows: Sequence[EncodedRow],
    measure: Callable[[EncodedRow, Sequence[int]], tuple[Tensor, Tensor]],
) -> list[Prediction]:
    """Writes with the most probable tokens; the confidence is their geometric mean probability."""
    settings = SamplingSettings(max_tokens=max_tokens)
    longest = max((len(prompt) for prompt in prompts), default=0)
    limits = BatchLimits(max_length=num_first_ids(model.config, longest) + max_tokens)
    numbered = [Prompt(number, prompt) for number, prompt in enumerate(prompts)]
    was_training = model.training
    model.eval()
    try:
        written = dict(complete(model, encoding.tokenizer, numbered, settings, limits=limits))
        with torch.inference_mode():
            return [_prediction(row, written[number], measure) for number, row in enumerate(rows)]
    finally:
        model.train(was_training)


def _prediction(
    row: EncodedRow,
    written: Completion,
    measure: Callable[[EncodedRow, Sequence[int]], tuple[Tensor, Tensor]],
) -> Prediction:
    loss_sum, count = measure(row, written.ids)
    confidence = math.exp(-float(loss_sum) / max(int(count), 1))
    return {
        "text": written.text,
        "confidence": round(confidence, _DIGITS),
        "finish_reason": written.finish_reason,
    }
