"""Encoder-decoder families: logits, loss and gradients of transformers, both ways, and decoding."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.engine.their_models import gradient_errors, ragged_ids, their_model
from weldlm.cache import KVCache
from weldlm.heads import Seq2SeqLM
from weldlm.objectives import seq2seq_targets
from weldlm.packing import PackedBatch
from weldlm.weights import load_config, load_pretrained, save_pretrained

transformers = pytest.importorskip("transformers")

T5_SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
    "decoder_start_token_id": 0,
    # their own start makes logits so large that fp32 has no digits left below 1e-5
    "initializer_factor": 0.1,
}
BART_SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
T5, BART, MARIAN = "T5ForConditionalGeneration", "BartForConditionalGeneration", "MarianMTModel"

# (model type, architecture, fields)
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "t5": ("t5", T5, T5_SIZES),
    "t5-v1.1": (
        "t5",
        T5,
        T5_SIZES | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
    "bart": ("bart", BART, BART_SIZES),
    "bart-scaled": ("bart", BART, BART_SIZES | {"scale_embedding": True}),
    "original-transformer": (
        "marian",
        MARIAN,
        BART_SIZES | {"scale_embedding": True, "activation_function": "relu"},
    ),
}
FAMILIES = pytest.mark.parametrize("name", CASES)


def theirs_of(name: str) -> Any:
    model_type, architecture, fields = CASES[name]
    theirs = their_model(transformers.AutoConfig.for_model(model_type, **fields), architecture)
    if model_type == "marian":
        torch.nn.init.normal_(theirs.final_logits_bias)
    return theirs


def ours_of(name: str, folder: Path) -> Seq2SeqLM:
    theirs_of(name).save_pretrained(folder)
    return load_pretrained(folder, Seq2SeqLM)


def pairs() -> tuple[list[Tensor], list[Tensor]]:
    """Sources and decoder inputs of the same number, of other lengths."""
    return ragged_ids(5, 17, 1, 31), ragged_ids(9, 1, 24, 30)


def packed_logits(model: Seq2SeqLM, sources: list[Tensor], targets: list[Tensor]) -> Tensor:
    packed = PackedBatch.from_sequences
    return model.logits(packed(sources), packed(targets))


def their_logits(model: Any, source: Tensor, target: Tensor) -> Tensor:
    found = model(source.unsqueeze(0), decoder_input_ids=target.unsqueeze(0), use_cache=False)
    return found.logits[0]  # type: ignore[no-any-return]


@FAMILIES
def test_their_folder_loads_with_equal_logits(tmp_path: Path, name: str) -> None:
    theirs, (sources, targets) = theirs_of(name), pairs()
    theirs.save_pretrained(tmp_path)

    with torch.no_grad():
        logits = packed_logits(load_pretrained(tmp_path, Seq2SeqLM), sources, targets)

        expected = torch.cat([their_logits(theirs, *pair) for pair in zip(sources, targets)])  # noqa: B905 (equal by construction)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


@FAMILIES
def test_our_folder_loads_in_transformers_with_equal_logits(tmp_path: Path, name: str) -> None:
    ours, (source, target) = ours_of(name, tmp_path / "theirs"), ragged_ids(31, 12)

    save_pretrained(ours, tmp_path / "ours")
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "ours").eval()

    with torch.no_grad():
        expected = their_logits(again, source, target)
        logits = packed_logits(ours, [source], [target])
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert load_config(tmp_path / "ours") == ours.config


@FAMILIES
def test_loss_and_every_gradient_equal_transformers(tmp_path: Path, name: str) -> None:
    theirs, ours, (source, target) = (
        theirs_of(name),
        ours_of(name, tmp_path / "theirs"),
        ragged_ids(21, 13),
    )
    start_id = ours.config.decoder_start_id
    assert start_id is not None

    loss_sum, count = ours(
        PackedBatch.from_sequences([source]), *seq2seq_targets([target], start_id)
    )
    (loss_sum / count).backward()
    expected = theirs(source.unsqueeze(0), labels=target.unsqueeze(0)).loss
    expected.backward()

    torch.testing.assert_close(loss_sum / count, expected, rtol=0, atol=1e-6)
    errors = gradient_errors(ours, theirs, tmp_path / "gradients")
    errors.pop("head_bias", None)  # theirs is a constant
    assert max(errors.values()) <= 1e-5


@FAMILIES
def test_packed_equals_one_by_one(tmp_path: Path, name: str) -> None:
    ours, (sources, targets) = ours_of(name, tmp_path), pairs()

    with torch.no_grad():
        packed = packed_logits(ours, sources, targets)
        alone = torch.cat(
            [packed_logits(ours, [s], [t]) for s, t in zip(sources, targets, strict=True)]
        )

    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-5)


@FAMILIES
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_changed_token_leaks_into_no_other_document(tmp_path: Path, name: str, side: str) -> None:
    ours, (first, second, target) = ours_of(name, tmp_path), ragged_ids(9, 11, 9)
    sources, targets = [first, second], [target, second]
    changed = [first.flip(0), second], targets
    if side == "target":
        changed = sources, [target.flip(0), second]

    with torch.no_grad():
        before = packed_logits(ours, sources, targets)
        after = packed_logits(ours, *changed)

    assert torch.equal(before[9:], after[9:])
    assert not torch.equal(before[:9], after[:9])


@FAMILIES
def test_cached_decoding_equals_uncached(tmp_path: Path, name: str) -> None:
    ours, sources, targets = ours_of(name, tmp_path), ragged_ids(5, 17), ragged_ids(14, 14)
    cache = KVCache(ours.config, 2, 16, dtype=torch.float32, device="cpu")

    with torch.inference_mode():
        memory = ours.encode(PackedBatch.from_sequences(sources))
        steps = [
            ours.next_token_logits(
                PackedBatch.from_lengths(tokens, [1, 1], starts=[place, place]),
                memory,
                cache.step(np.array([[0], [1]], dtype=np.int32), [place, place], [1, 1]),
            )
            for place, tokens in enumerate(torch.stack(targets, dim=1))
        ]

        expected = packed_logits(ours, sources, targets)
    torch.testing.assert_close(torch.stack(steps, dim=1).flatten(0, 1), expected, rtol=0, atol=1e-5)


@FAMILIES
def test_cross_attention_keys_are_computed_once(tmp_path: Path, name: str) -> None:
    ours, (source,) = ours_of(name, tmp_path), ragged_ids(17)
    calls: list[int] = []
    for block in ours.decoder.blocks:
        block.cross_attention.kv.register_forward_hook(lambda *_: calls.append(1))
    cache = KVCache(ours.config, 1, 4, dtype=torch.float32, device="cpu")

    with torch.inference_mode():
        memory = ours.encode(PackedBatch.from_sequences([source]))
        for place in range(4):
            token = PackedBatch.from_lengths(torch.tensor([7]), [1], starts=[place])
            step = cache.step(np.zeros((1, 1), dtype=np.int32), [place], [1])
            ours.next_token_logits(token, memory, step)

    assert len(calls) == ours.config.num_layers


@FAMILIES
def test_parameter_count_equals_the_built_model(tmp_path: Path, name: str) -> None:
    ours = ours_of(name, tmp_path)

    assert ours.config.num_parameters == sum(weight.numel() for weight in ours.parameters())


def test_a_head_of_its_own_survives_a_config_that_ties_it(tmp_path: Path) -> None:
    theirs = theirs_of("t5-v1.1")
    theirs.lm_head.weight = torch.nn.Parameter(0.1 * torch.randn(97, 32))
    theirs.save_pretrained(tmp_path / "theirs")
    source, target = ragged_ids(9, 6)

    ours = load_pretrained(tmp_path / "theirs", Seq2SeqLM)
    save_pretrained(ours, tmp_path / "ours")
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "ours").eval()

    with torch.no_grad():
        expected = their_logits(theirs, source, target)
        logits = packed_logits(ours, [source], [target])
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(their_logits(again, source, target), expected, rtol=0, atol=1e-5)


def test_a_logits_bias_of_bart_that_is_not_zero_is_refused(tmp_path: Path) -> None:
    theirs = theirs_of("bart")
    torch.nn.init.ones_(theirs.final_logits_bias)
    theirs.save_pretrained(tmp_path)

    with pytest.raises(ValueError, match="'final_logits_bias' is not zero, which is not supported"):
        load_pretrained(tmp_path, Seq2SeqLM)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("bart", '"decoder_ffn_dim": 48', '"decoder_ffn_dim": 49', "decoder_ffn_dim 49 is not"),
        ("t5", '"relu"', '"weird-relu"', "feed_forward_proj 'weird-relu' is not supported"),
        # encoder and decoder have embeddings of their own then
        (
            "bart",
            '"tie_word_embeddings": true',
            '"tie_word_embeddings": false',
            "tie_word_embeddings = False is not supported",
        ),
        (
            "original-transformer",
            '"tie_word_embeddings": true',
            '"tie_word_embeddings": false',
            "tie_word_embeddings = False is not supported",
        ),
        (
            "t5",
            '"relative_attention_max_distance": 20',
            '"relative_attention_max_distance": 4',
            "relative_attention_max_distance 4 is not supported",
        ),
    ],
    ids=["bart", "t5", "bart-untied", "marian-untied", "t5-distance"],
)
def test_unsupported_fields_are_refused_by_name(
    tmp_path: Path, name: str, old: str, new: str, message: str
) -> None:
    theirs_of(name).config.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace(old, new))

    with pytest.raises(ValueError, match=message):
        load_config(tmp_path)
