"""What is generated when generation is timed: rows of random ids, each with its number of tokens.

Random ids do for any model, also one with random weights: what is timed does not depend on which
tokens there are, and the model's end of text ends nothing.
"""

import random
from dataclasses import dataclass, replace

__all__ = ["Workload", "decode_workload", "mixed_workload", "prefill_workload"]

_MOST_ID = 10_000  # of the protocol of nano-vllm; a smaller vocabulary wraps around
_CHECKED_ROWS, _CHECKED_PROMPT, _CHECKED_TOKENS = 4, 32, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Rows to generate."""

    name: str
    prompts: tuple[tuple[int, ...], ...]
    max_tokens: tuple[int, ...]  # of each row, which has exactly as many
    temperature: float = 0.0
    is_prefill: bool = False  # what counts is how fast prompts are read

    @property
    def num_prompt_tokens(self) -> int:
        return sum(map(len, self.prompts))

    @property
    def num_new_tokens(self) -> int:
        return sum(self.max_tokens)

    @property
    def num_counted(self) -> int:
        """The tokens of tokens per second."""
        return self.num_prompt_tokens if self.is_prefill else self.num_new_tokens

    @property
    def longest(self) -> int:
        """Most tokens of a sequence."""
        rows = zip(self.prompts, self.max_tokens, strict=True)
        return max(len(prompt) + count for prompt, count in rows)

    def checked(self) -> "Workload":
        """A few short rows of it, greedy: what all sides must agree on."""
        prompts = tuple(prompt[:_CHECKED_PROMPT] for prompt in self.prompts[:_CHECKED_ROWS])
        counts = tuple(min(count, _CHECKED_TOKENS) for count in self.max_tokens[:_CHECKED_ROWS])
        return replace(
            self, name="check", prompts=prompts, max_tokens=counts, temperature=0, is_prefill=False
        )


def mixed_workload(
    num_prompts: int, lengths: tuple[int, int], *, vocab_size: int, temperature: float = 0.6
) -> Workload:
    """The protocol of nano-vllm's bench.py, which is 256 prompts with lengths (100, 1024).

    Args:
        num_prompts: rows.
        lengths: least and most, of prompts and of completions, which are uniform between them.
        vocab_size: of the model.
        temperature: of the draws.
    """
    draws = random.Random(0)
    prompts = []
    for _ in range(num_prompts):
        length = draws.randint(*lengths)
        prompts.append(tuple(draws.randint(0, _MOST_ID) % vocab_size for _ in range(length)))
    return Workload(
        name=f"mixed {num_prompts} x {lengths[0]}-{lengths[1]}",
        prompts=tuple(prompts),
        max_tokens=tuple(draws.randint(*lengths) for _ in range(num_prompts)),
        temperature=temperature,
    )


def prefill_workload(length: int, *, vocab_size: int) -> Workload:
    """pp of llama-bench: one prompt is read."""
    draws = random.Random(length)
    prompt = tuple(draws.randint(0, _MOST_ID) % vocab_size for _ in range(length))
    return Workload(name=f"pp{length}", prompts=(prompt,), max_tokens=(1,), is_prefill=True)


def decode_workload(num_tokens: int, *, vocab_size: int) -> Workload:
    """tg of llama-bench: one sequence grows from a single token."""
    prompt = (random.Random(num_tokens).randint(0, _MOST_ID) % vocab_size,)
    return Workload(name=f"tg{num_tokens}", prompts=(prompt,), max_tokens=(num_tokens,))
