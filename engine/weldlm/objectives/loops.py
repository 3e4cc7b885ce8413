"""The loops of the objectives over tokens, compiled. Nothing here checks bounds: callers do."""

import numpy as np
from numba import njit

from weldlm.objectives.draws import draw, sample_key, uniform

__all__ = ["corrupt_spans", "hide_tokens"]

_DRAWS = 3  # a token to hide: is it chosen, what becomes of it, which id takes its place


@njit(nogil=True, cache=True)
def hide_tokens(
    ids,
    offsets,
    sample_ids,
    seed,
    is_special,
    starts_word,
    share,
    mask_below,
    random_below,
    mask_id,
    vocab_size,
    hidden,
    labels,
):
    """Chooses and hides tokens in place of `hidden`, a copy of `ids`; see `MaskedLMObjective`."""
    for sequence in range(len(sample_ids)):
        key = sample_key(seed, sample_ids[sequence])
        begin = offsets[sequence]
        is_inside, is_chosen = False, False
        for place in range(begin, offsets[sequence + 1]):
            token = ids[place]
            if is_special[token]:
                is_inside = False
                continue
            first = _DRAWS * (place - begin)
            if not is_inside or starts_word[token]:
                is_chosen = uniform(draw(key, first)) < share
            is_inside = True
            if not is_chosen:
                continue
            labels[place] = token
            fate = uniform(draw(key, first + 1))
            if fate < mask_below:
                hidden[place] = mask_id
            elif fate < random_below:
                hidden[place] = draw(key, first + 2) % np.uint64(vocab_size)


@njit(nogil=True, cache=True)
def corrupt_spans(
    ids,
    offsets,
    sample_ids,
    seed,
    hidden,
    spans,
    first_sentinel,
    eos_id,
    inputs,
    targets,
):
    """Fills `inputs` and `targets`; see `SpanCorruptionObjective`."""
    read, asked = 0, 0
    for sequence in range(len(sample_ids)):
        place, end = offsets[sequence], offsets[sequence + 1]
        length = end - place
        key = sample_key(seed, sample_ids[sequence])
        kept_lengths = _parts(key, 0, length - hidden[sequence], spans[sequence])
        hidden_lengths = _parts(key, length, hidden[sequence], spans[sequence])
        for span in range(spans[sequence]):
            inputs[read : read + kept_lengths[span]] = ids[place : place + kept_lengths[span]]
            read += kept_lengths[span] + 1
            place += kept_lengths[span]
            inputs[read - 1] = targets[asked] = first_sentinel - span
            asked += 1
            targets[asked : asked + hidden_lengths[span]] = ids[
                place : place + hidden_lengths[span]
            ]
            asked += hidden_lengths[span]
            place += hidden_lengths[span]
        if spans[sequence] == 0:
            inputs[read : read + length] = ids[place:end]
            read += length
        inputs[read] = targets[asked] = eos_id
        read += 1
        asked += 1


@njit(nogil=True, cache=True)
def _parts(key, first_draw, length, count):
    """Cuts `length` into `count` parts of at least 1; every such cut is equally likely."""
    parts = np.ones(count, np.int64)
    cuts_left, part = count - 1, 0
    for gap in range(length - 1):
        # selection sampling: each of the gaps left is cut with the probability that fills the need
        if uniform(draw(key, first_draw + gap)) * (length - 1 - gap) < cuts_left:
            cuts_left -= 1
            part += 1
        else:
            parts[part] += 1
    return parts
