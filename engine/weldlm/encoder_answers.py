"""What encoders say of texts: an embedding, the probabilities of labels, or of hidden words."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weldlm.atomic_file import rename_to_new, replace_file, replace_text
from weldlm.config import ModelConfig, Pooling
from weldlm.encoding import embed, mask_token, packed_batches
from weldlm.heads import MaskedLM, SentenceEmbedder, SequenceClassifier
from weldlm.job_output import JobFiles
from weldlm.tokenizer import Tokenizer

__all__ = ["classify_rows", "embed_rows", "encode_masked", "fill_rows", "name_array"]

Rows = Sequence[Sequence[int]]


def embed_rows(
    model: SentenceEmbedder,
    rows: Rows,
    *,
    pooling: Pooling,
    is_normalized: bool,
    max_batch_tokens: int,
) -> list[dict[str, Any]]:
    """Returns {"embedding": [...]} of each row of ids."""
    vectors = embed(
        model,
        rows,
        pooling=pooling,
        is_normalized=is_normalized,
        max_batch_tokens=max_batch_tokens,
    )
    return [{"embedding": vector} for vector in vectors.tolist()]


@torch.inference_mode()
def classify_rows(
    model: SequenceClassifier, rows: Rows, *, max_batch_tokens: int
) -> list[dict[str, Any]]:
    """Returns {"label", "probability", "probabilities": {label: number}} of each row of ids."""
    labels = model.config.labels
    found = torch.empty(len(rows), len(labels))
    for places, batch in packed_batches(
        rows, max_batch_tokens=max_batch_tokens, device=_device(model)
    ):
        found[places] = model.logits(batch).float().softmax(dim=-1).cpu()
    answers = []
    for numbers in found.tolist():
        best = max(range(len(labels)), key=numbers.__getitem__)
        answers.append(
            {
                "label": labels[best],
                "probability": numbers[best],
                "probabilities": dict(zip(labels, numbers, strict=True)),
            }
        )
    return answers


def encode_masked(config: ModelConfig, tokenizer: Tokenizer, text: str) -> list[int]:
    """Returns the ids of a text in which the mask token hides words.

    Raises:
        ValueError: it hides none, or the text does not fit into the model's context.
    """
    mask = mask_token(tokenizer)
    if mask is None or mask not in text:
        raise ValueError(f"the text has no mask; expected {mask or 'a mask token'} in it")
    ids = tokenizer.encode(text, allowed_special=[mask])
    if len(ids) > config.context_length:
        raise ValueError(
            f"the text has {len(ids)} tokens; expected at most the model's context_length "
            f"{config.context_length}; shorten it"
        )
    return ids


@torch.inference_mode()
def fill_rows(
    model: MaskedLM, tokenizer: Tokenizer, rows: Rows, *, top_k: int, max_batch_tokens: int
) -> list[dict[str, Any]]:
    """Returns {"text", "masks"} of each row of ids.

    The text has the most probable token at each mask; a mask is a list of {"token", "id",
    "probability"}, the most probable first.
    """
    mask_id = tokenizer.special_tokens.get(mask_token(tokenizer) or "")
    answers: list[dict[str, Any]] = [{} for _ in rows]
    for places, batch in packed_batches(
        rows, max_batch_tokens=max_batch_tokens, device=_device(model)
    ):
        is_hidden = batch.ids == mask_id
        best = model.logits(batch)[is_hidden].float().softmax(dim=-1).topk(top_k, dim=-1)
        guesses = iter(_guesses(tokenizer, best.values, best.indices))
        for place in places:
            ids = list(rows[place])
            masks = [next(guesses) for token_id in ids if token_id == mask_id]
            firsts = iter(masks)
            filled = [next(firsts)[0]["id"] if i == mask_id else i for i in ids]
            text = tokenizer.decode(filled, skip_special_tokens=True)
            answers[place] = {"text": text, "masks": masks}
    return answers


def name_array(files: JobFiles) -> None:
    """Makes a .npy file of finished rows: fp32, a row for each line; NaN for those with errors.

    What is wrong with them goes to `<output>.errors.jsonl`.

    Raises:
        FileExistsError: something has taken the output's name.
    """
    with files.partial.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    width = max((len(row["embedding"]) for row in rows if "error" not in row), default=0)
    array = np.full((len(rows), width), np.nan, dtype=np.float32)
    for row in rows:
        if "error" not in row:
            array[row["index"]] = row["embedding"]
    bad = [json.dumps(row) + "\n" for row in rows if "error" in row]
    if bad:
        replace_text(files.output.with_name(f"{files.output.name}.errors.jsonl"), "".join(bad))
    whole = files.output.with_name(f"{files.output.name}.whole")
    with replace_file(whole) as draft, draft.open("wb") as file:
        np.save(file, array)
    rename_to_new(whole, files.output)
    files.partial.unlink()
    files.record.unlink()


def _guesses(tokenizer: Tokenizer, values: Tensor, indices: Tensor) -> list[list[dict[str, Any]]]:
    return [
        [
            {"token": tokenizer.decode([token_id]), "id": token_id, "probability": probability}
            for token_id, probability in zip(ids, numbers, strict=True)
        ]
        for ids, numbers in zip(indices.tolist(), values.tolist(), strict=True)
    ]


def _device(model: torch.nn.Module) -> torch.device:
    return next(model.parameters()).device
