"""The head of encoder-decoders: the next token of a target, given its source."""

from torch import Tensor, nn

from weldlm.config import ModelConfig
from weldlm.heads.language import VocabularyModel
from weldlm.heads.model import Projection
from weldlm.layers import Cache, Memory, PackedEmbedding
from weldlm.packing import PackedBatch
from weldlm.transformer import Transformer

__all__ = ["Seq2SeqLM"]


class Seq2SeqLM(VocabularyModel):
    """An encoder that reads sources and a decoder that writes a target for each."""

    kind = "seq2seq_lm"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        if not config.num_encoder_layers:
            raise ValueError("num_encoder_layers is 0; expected at least 1 for an encoder-decoder")
        self.encoder = Transformer(config.encoder)
        self.decoder = Transformer(config, self.encoder.embedding.tokens)
        self._add_head()

    @property
    def tokens(self) -> nn.Embedding | PackedEmbedding:
        return self.encoder.embedding.tokens

    def forward(
        self, source: PackedBatch, target: PackedBatch, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns the summed cross-entropy and the number of labels.

        Args:
            source: B sequences for the encoder.
            target: T tokens of B sequences for the decoder, each after `decoder_start_id`.
            labels: [T] int64, the id that follows each token of `target`, -100 where there is none.

        Returns:
            loss_sum, an fp32 scalar in nats, and label_count, an int64 scalar.
        """
        return self._loss(self.projection(source, target, labels))

    def projection(self, source: PackedBatch, target: PackedBatch, labels: Tensor) -> Projection:
        """Returns what the loss is made of; arguments as of `forward`."""
        return self._projection(self.decoder(target, memory=self._read(source)), labels)

    def logits(self, source: PackedBatch, target: PackedBatch) -> Tensor:
        """Returns the scores of the next token after every token of `target`, [T, vocab_size]."""
        return self.scores(self.decoder(target, memory=self._read(source)))

    def encode(self, source: PackedBatch) -> Memory:
        """Returns what decoding needs of the sources, with keys and values computed once."""
        return self.decoder.memorize(self._read(source))

    def next_token_logits(
        self, target: PackedBatch, memory: Memory, cache: Cache | None = None
    ) -> Tensor:
        """Returns the scores of the token after each target sequence, [B, vocab_size].

        Every sequence of the batch holds at least one token.

        Args:
            target: new tokens of the sequences; their earlier ones lie in `cache`.
            memory: of their sources, in the same order.
            cache: takes the new tokens in.
        """
        hidden = self.decoder(target, cache, memory)
        return self.scores(hidden[target.offsets[1:].long() - 1])

    def _read(self, source: PackedBatch) -> Memory:
        return Memory(self.encoder(source), source.offsets, source.max_length)
