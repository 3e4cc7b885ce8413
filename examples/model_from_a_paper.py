"""A model that weldlm has no family for, out of its layers: attention and MLP side by side.

PaLM (Chowdhery et al. 2022, arXiv:2204.02311, section 2) adds both to the stream at once, after one
norm. It learns here to repeat what it has read: python examples/model_from_a_paper.py
"""

import torch
from torch import Tensor, nn

from weldlm import PackedBatch
from weldlm.config import ModelConfig, preset
from weldlm.layers import Attention, LayerContext, Mlp, RotaryTable, build_norm
from weldlm_kernels import linear_cross_entropy


class ParallelBlock(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.norm = build_norm(config)
        self.attention = Attention(config, layer)
        self.mlp = Mlp(config)

    def forward(self, stream: Tensor, context: LayerContext) -> Tensor:
        x = self.norm(stream)
        return stream + self.attention(x, context) + self.mlp(x)


class ParallelTransformer(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.table = RotaryTable(config.head_dim, config.context_length)
        self.blocks = nn.ModuleList(ParallelBlock(config, i) for i in range(config.num_layers))
        self.norm = build_norm(config)

    def forward(self, batch: PackedBatch, labels: Tensor) -> Tensor:
        stream, context = self.tokens(batch.ids), LayerContext(batch=batch, table=self.table)
        for block in self.blocks:
            stream = block(stream, context)
        loss_sum, count = linear_cross_entropy(self.norm(stream), self.tokens.weight, labels)
        return loss_sum / count


def main(num_steps: int = 400) -> float:
    torch.manual_seed(0)
    model = ParallelTransformer(preset("llama-tiny", vocab_size=64, num_layers=2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(num_steps):
        texts = torch.randint(64, (32, 10)).repeat(1, 2)
        labels = nn.functional.pad(texts[:, 10:], (9, 1), value=-100)  # what is read again
        loss = model(PackedBatch.from_sequences(list(texts)), labels.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


if __name__ == "__main__":
    print(f"loss {main():.3f}, of a guess 4.159")
