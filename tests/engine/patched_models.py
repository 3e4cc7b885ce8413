"""Tiny models of transformers and batches with padding, for the tests of patching."""

from typing import Any

import torch
from torch import Tensor

from tests.engine.their_models import SIZES, their_model

__all__ = ["FAMILIES", "LENGTHS", "batch_of", "relative_differences", "tiny_model"]

_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_T5 = {"vocab_size": 97, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
       "relative_attention_num_buckets": 8, "relative_attention_max_distance": 12,
       "dropout_rate": 0.0, "decoder_start_token_id": 0}  # fmt: skip

# family -> class of its configuration, of the model, and what the configuration holds
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", "GPT2LMHeadModel",
             {"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64,
              "embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}),
    "llama": ("LlamaConfig", "LlamaForCausalLM", SIZES | {"num_key_value_heads": 2}),
    "mistral": ("MistralConfig", "MistralForCausalLM",
                SIZES | {"num_key_value_heads": 2, "sliding_window": 5, "head_dim": 8}),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", SIZES | {"num_key_value_heads": 2}),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM",
              SIZES | {"num_key_value_heads": 2, "head_dim": 16, "use_sliding_window": True,
                       "sliding_window": 5, "max_window_layers": 1}),
    "bert": ("BertConfig", "BertForMaskedLM", SIZES | _NO_DROPOUT),
    "roberta": ("RobertaConfig", "RobertaForMaskedLM", SIZES | _NO_DROPOUT),
    "modernbert": ("ModernBertConfig", "ModernBertForMaskedLM",
                   SIZES | {"local_attention": 8, "global_attn_every_n_layers": 2,
                            "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2,
                            "bos_token_id": 1, "eos_token_id": 2}),
    "t5": ("T5Config", "T5ForConditionalGeneration", _T5),
    "t5-v1.1": ("T5Config", "T5ForConditionalGeneration",
                _T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "bart": ("BartConfig", "BartForConditionalGeneration",
             {"vocab_size": 97, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
              "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48,
              "decoder_ffn_dim": 48, "max_position_embeddings": 64, "dropout": 0.0,
              "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
              "decoder_start_token_id": 2}),
}  # fmt: skip
LENGTHS = (3, 11, 1, 7)


def tiny_model(family: str, implementation: str = "sdpa", **changes: Any) -> Any:
    """A model in evaluation mode with the same random weights at each call."""
    import transformers

    config, architecture, sizes = FAMILIES[family]
    model = their_model(getattr(transformers, config)(**(sizes | changes)), architecture)
    model.set_attn_implementation(implementation)
    return model


def batch_of(model: Any, side: str = "right", lengths: tuple[int, ...] = LENGTHS) -> dict[str, Any]:
    """Ids, mask and labels; the first token of a sequence, and every third, has no label."""
    ids, mask = _padded(lengths, side)
    labels = ids.masked_fill((mask == 0) | (mask.cumsum(1) % 3 == 1), -100)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    if not model.config.is_encoder_decoder:
        return batch
    labels, target_mask = _padded(tuple(length + 2 for length in reversed(lengths)), "right")
    return batch | {
        "labels": labels.masked_fill(target_mask == 0, -100),
        "decoder_attention_mask": target_mask,
    }


def _padded(lengths: tuple[int, ...], side: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(len(lengths) + lengths[0])
    column = torch.arange(max(lengths))
    real = torch.stack(
        [column < n if side == "right" else column >= max(lengths) - n for n in lengths]
    )
    ids = torch.randint(5, 97, real.shape, generator=generator)
    return ids.masked_fill(~real, 1), real.long()


def relative_differences(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, float]:
    """|after - before| / |before|; one that is zero but for rounding is measured by the largest."""
    largest = max(float(value.norm()) for value in before.values())
    return {
        name: float((after[name] - value).norm() / max(float(value.norm()), 1e-3 * largest))
        for name, value in before.items()
    }
