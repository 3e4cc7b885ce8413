"""Generation: prompts in, completions out, through one continuously batched engine.

Each forward takes one token of every sequence under way and, in chunks, the prompts that enter,
packed end to end; a sequence that finishes makes room for the next prompt at once. What a row
generates depends on its own prompt, its row id and the settings. The prompt of an encoder-decoder
is what its encoder reads; the sequence that grows is the decoder's.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace

from weldlm.batch_limits import BatchLimits
from weldlm.completion import Completion, FinishReason
from weldlm.engine import Engine, GenerativeModel, LanguageModel
from weldlm.generation_request import Request
from weldlm.prompt import Prompt, encode_prompt, num_first_ids
from weldlm.sampling_settings import SamplingSettings
from weldlm.tokenizer import Tokenizer

__all__ = [
    "BatchLimits",
    "Completion",
    "FinishReason",
    "GenerativeModel",
    "LanguageModel",
    "complete",
    "generate",
    "stream",
]


def generate(
    model: GenerativeModel,
    tokenizer: Tokenizer | None,
    prompts: Sequence[str | Sequence[int]],
    settings: SamplingSettings | None = None,
    *,
    batch_size: int = 16,
    max_batch_tokens: int = 2_048,
) -> list[Completion]:
    """Completes texts or lists of ids; a prompt's place in the list is its row id.

    Args:
        model: a `CausalLM`, or a `Seq2SeqLM`, for which prompts are sources.
        tokenizer: None only for ids without stop texts; the completions' texts are empty then.
        prompts: texts, or ids.
        settings: how to choose tokens and when to end; the defaults where None.
        batch_size: most sequences under way at a time.
        max_batch_tokens: most tokens in one forward; longer prompts enter in chunks.

    Raises:
        ValueError: a prompt is empty and the model has no first token, does not fit into the
            model's context, or has ids that the model does not know.
        FloatingPointError: the model's scores are not finite.
    """
    if isinstance(prompts, str):
        raise ValueError(f"prompts is the text {prompts[:40]!r}; expected a list of prompts")
    settings = SamplingSettings() if settings is None else settings
    encoded = [
        Prompt(row_id, encode_prompt(model.config, tokenizer, prompt))
        for row_id, prompt in enumerate(prompts)
    ]
    longest = max((len(prompt.ids) for prompt in encoded), default=0)
    limits = BatchLimits(
        batch_size=min(batch_size, max(len(encoded), 1) * settings.num_sequences),
        max_batch_tokens=max_batch_tokens,
        max_length=num_first_ids(model.config, longest) + settings.max_tokens,
    )
    completions = dict(complete(model, tokenizer, encoded, settings, limits=limits))
    return [completions[prompt.row_id] for prompt in encoded]


def stream(
    model: GenerativeModel,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int],
    settings: SamplingSettings | None = None,
    *,
    limits: BatchLimits | None = None,
) -> Generator[str, None, Completion]:
    """Yields the completion of one prompt piece by piece, and returns it whole.

    A piece ends between characters; text that may be the beginning of a stop text is held back. The
    result and the errors are those of `generate` with this prompt alone. Of `limits`, the batch
    size is left out and the length is cut to what the prompt can grow to.
    """
    settings = SamplingSettings() if settings is None else settings
    if settings.n > 1:
        raise ValueError(f"n is {settings.n}; expected 1 to stream; use generate")
    ids = encode_prompt(model.config, tokenizer, prompt)
    limits = replace(limits or BatchLimits(), batch_size=settings.num_sequences)
    limits = limits.cut_to(num_first_ids(model.config, len(ids)) + settings.max_tokens)
    engine = Engine(model, tokenizer, limits)
    engine.add(Request(id=0, ids=ids, settings=settings))
    return _stream(engine)


def _stream(engine: Engine) -> Generator[str, None, Completion]:
    while True:
        for event in engine.step():
            completion = event.completion
            # beams, and samples of which the best is kept, have no text before their end
            text = event.text if event.ids or completion is None else completion.text
            if text:
                yield text
            if completion is not None:
                return completion


def complete(
    model: GenerativeModel,
    tokenizer: Tokenizer | None,
    prompts: Iterable[Prompt],
    settings: SamplingSettings,
    *,
    limits: BatchLimits,
) -> Iterator[tuple[int, Completion]]:
    """Yields (row id, completion) of each prompt as it finishes.

    Prompts, as `encode_prompt` gives them, are taken one by one as room appears, so they may come
    from a source of any length.
    """
    if settings.num_sequences > limits.batch_size:
        raise ValueError(
            f"n, best_of or num_beams is {settings.num_sequences}; expected at most batch_size "
            f"{limits.batch_size}; raise batch_size"
        )
    engine = Engine(model, tokenizer, limits)
    waiting = iter(prompts)
    while True:
        while engine.counts.num_sequences + settings.num_sequences <= limits.batch_size:
            prompt = next(waiting, None)
            if prompt is None:
                break
            engine.add(
                Request(id=prompt.row_id, ids=prompt.ids, settings=settings, row_id=prompt.row_id)
            )
        if not engine.has_work:
            return
        for event in engine.step():
            if event.completion is not None:
                yield int(event.request_id), event.completion
