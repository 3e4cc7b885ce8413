"""A completion as fields of a JSON row."""

from collections.abc import Iterable

from weldlm.completion import Completion
from weldlm.token_logprobs import TokenLogprob

__all__ = ["completion_fields"]


def completion_fields(completion: Completion) -> dict[str, object]:
    """What a row of a batch job says of a completion; docs/batch-jobs.md says what the fields are.

    Fields for what the settings did not ask for are left out.
    """
    found: dict[str, object] = {
        "num_prompt_tokens": completion.num_prompt_tokens,
        **_answer(completion),
    }
    if completion.prompt_logprobs is not None:
        found["prompt_logprobs"] = _plain(completion.prompt_logprobs)
    if completion.others:
        found["others"] = [_answer(other) for other in completion.others]
    return found


def _answer(completion: Completion) -> dict[str, object]:
    """What is a completion's own."""
    answer: dict[str, object] = {
        "completion": completion.text,
        "finish_reason": completion.finish_reason,
        "num_tokens": len(completion.ids),
    }
    if completion.score is not None:
        answer["score"] = completion.score
    if completion.logprobs is not None:
        answer["logprobs"] = _plain(completion.logprobs)
    return answer


def _plain(logprobs: Iterable[TokenLogprob]) -> list[list[object]]:
    return [[one.id, one.logprob, [list(pair) for pair in one.top]] for one in logprobs]
