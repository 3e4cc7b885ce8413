"""Padded batches of other libraries in, padded results out; packed in between."""

import torch
from torch import Tensor, nn

from weldlm.heads.classification import (
    QuestionAnswerer,
    Regressor,
    SequenceClassifier,
    TokenClassifier,
)
from weldlm.heads.language import CausalLM, MaskedLM
from weldlm.heads.model import Model
from weldlm.heads.seq2seq import Seq2SeqLM
from weldlm.packing import PackedBatch

__all__ = ["PaddedModel"]


class PaddedModel(nn.Module):
    """A model that is called as those of transformers are: `forward(input_ids, attention_mask)`.

    The weights are those of the model it is made of. No padding passes a layer: where a row has
    its padding, or how much, changes nothing.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Returns what the head says.

        Args:
            input_ids: [B, S] int64.
            attention_mask: [B, S], nonzero where a token is real; all where None.
            token_type_ids: [B, S] int64, segment of each token.
            decoder_input_ids: [B, T] int64, targets of an encoder-decoder and of no other model.
            decoder_attention_mask: [B, T], as `attention_mask`.

        Returns:
            Scores [B, S, vocab_size] or [B, S, num_labels], zero where the padding is; [B, T,
            vocab_size] of an encoder-decoder; [B, num_labels] of a head that judges sequences;
            embeddings [B, hidden_size].

        Raises:
            ValueError: shapes do not fit together, a row is longer than the model's context, or
                has no token where one is needed.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        source = self._pack(input_ids, mask, token_type_ids)
        if isinstance(self.model, Seq2SeqLM):
            return self._target_scores(
                self.model, source, decoder_input_ids, decoder_attention_mask
            )
        if decoder_input_ids is not None:
            raise ValueError(
                f"decoder_input_ids was given to a model of {self.config.family}, which has no "
                "decoder beside its encoder; leave it out"
            )
        if isinstance(self.model, CausalLM | MaskedLM | TokenClassifier | QuestionAnswerer):
            return source.to_padded(self.model.logits(source), mask)
        if not bool(mask.any(dim=1).all()):
            raise ValueError("a row of attention_mask is all zero; expected a token in each row")
        if isinstance(self.model, SequenceClassifier | Regressor):
            return self.model.logits(source)
        return self.model(source)  # type: ignore[no-any-return]

    def _target_scores(
        self,
        model: Seq2SeqLM,
        source: PackedBatch,
        decoder_input_ids: Tensor | None,
        decoder_attention_mask: Tensor | None,
    ) -> Tensor:
        if decoder_input_ids is None:
            raise ValueError(
                "decoder_input_ids is missing; expected the targets [B, T] of an encoder-decoder, "
                "each after its decoder_start_id"
            )
        mask = decoder_attention_mask
        mask = torch.ones_like(decoder_input_ids) if mask is None else mask
        target = self._pack(decoder_input_ids, mask, None)
        if target.num_sequences != source.num_sequences:
            raise ValueError(
                f"decoder_input_ids has {target.num_sequences} rows and input_ids "
                f"{source.num_sequences}; expected equal numbers"
            )
        return target.to_padded(model.logits(source, target), mask)

    def _pack(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None
    ) -> PackedBatch:
        batch = PackedBatch.from_padded(input_ids, attention_mask, token_type_ids)
        has_end = self.config.positions != "relative"
        if has_end and batch.max_length > self.config.context_length:
            raise ValueError(
                f"a row has {batch.max_length} tokens; expected at most the model's "
                f"context_length {self.config.context_length}; truncate it"
            )
        return batch
