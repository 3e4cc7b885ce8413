"""Attention and MLP around a residual stream, with norms before, after or around them."""

from torch import Tensor, nn

from weldlm.config import ModelConfig
from weldlm.layers.attention import Attention, CrossAttention
from weldlm.layers.context import LayerContext
from weldlm.layers.norm import build_norm
from weldlm.layers.packed_block import PackedBlock
from weldlm_kernels import activate, activate_gated
from weldlm_kernels.decoder_block import BlockShape

__all__ = ["Block", "Mlp"]


class Mlp(nn.Module):
    """down(activation(up(x))), or down(activation(gate(x)) * up(x)) with gate and up in one."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.is_gated, has_bias = config.is_gated, config.mlp_has_bias
        width = config.intermediate_size * (2 if config.is_gated else 1)
        self.up = nn.Linear(config.hidden_size, width, bias=has_bias)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=has_bias)
        self.activation = config.activation

    def forward(self, x: Tensor) -> Tensor:
        act = activate_gated if self.is_gated else activate
        return self.down(act(self.up(x), activation=self.activation))  # type: ignore[no-any-return]


class Block(nn.Module):
    """One layer: self-attention, cross-attention where there is an encoder, and MLP."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        has_first_norm = config.has_first_norm or layer > 0
        self.is_post_norm = config.norm_place == "post"
        has_outer_norms = config.norm_place == "both"
        self.attention_norm = build_norm(config) if has_first_norm else None
        self.attention = Attention(config, layer)
        self.attention_outer_norm = build_norm(config) if has_outer_norms else None
        self.cross_norm, self.cross_attention = None, None
        if config.has_cross_attention:
            self.cross_norm = build_norm(config)
            self.cross_attention = CrossAttention(config, layer)
        self.mlp_norm = build_norm(config)
        self.mlp = Mlp(config)
        self.mlp_outer_norm = build_norm(config) if has_outer_norms else None
        # what a packed block computes in one call
        self.is_plain = (
            config.norm_place == "pre"
            and config.is_causal
            and not config.has_cross_attention
            and not config.has_qk_norm
        )
        self._packed: PackedBlock | None = None

    def forward(
        self, stream: Tensor, update: Tensor | None, context: LayerContext
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the stream and what is still to be added to it."""
        if self.is_post_norm:
            return self._post_norm(stream, context), None
        if context.cache is not None and self.is_plain:
            found = self._packed_block().run(
                stream,
                update,
                context,
                layer=self.attention.layer,
                is_windowed=self.attention.window is not None,
                norms=(self.attention_norm, self.mlp_norm),
            )
            if found is not None:
                return found
        return self._pre_norm(stream, update, context)

    def _packed_block(self) -> PackedBlock:
        """Made anew when one of the linear layers is another one."""
        attention, mlp = self.attention, self.mlp
        layers = attention.qkv, attention.out, mlp.up, mlp.down
        if self._packed is None or not self._packed.stands_for(layers):
            shape = BlockShape(
                num_heads=attention.num_heads,
                num_kv_heads=attention.num_kv_heads,
                head_dim=attention.head_dim,
                activation=mlp.activation,
                is_gated=mlp.is_gated,
                window=attention.window,
                scale=attention.scale,
                softcap=attention.softcap,
            )
            self._packed = PackedBlock.of(layers, shape)
        return self._packed

    def _pre_norm(
        self, stream: Tensor, update: Tensor | None, context: LayerContext
    ) -> tuple[Tensor, Tensor]:
        if self.attention_norm is None:
            x = stream
        elif update is None:
            x = self.attention_norm(stream)
        else:
            x, stream = self.attention_norm.add(update, stream)
        update = self.attention(x, context)
        if self.attention_outer_norm is not None:
            update = self.attention_outer_norm(update)
        if self.cross_norm is not None and self.cross_attention is not None:
            x, stream = self.cross_norm.add(update, stream)
            update = self.cross_attention(x, context)
        x, stream = self.mlp_norm.add(update, stream)
        update = self.mlp(x)
        if self.mlp_outer_norm is not None:
            update = self.mlp_outer_norm(update)
        return stream, update

    def _post_norm(self, x: Tensor, context: LayerContext) -> Tensor:
        assert self.attention_norm is not None
        x, _ = self.attention_norm.add(self.attention(x, context), x)
        if self.cross_norm is not None and self.cross_attention is not None:
            x, _ = self.cross_norm.add(self.cross_attention(x, context), x)
        x, _ = self.mlp_norm.add(self.mlp(x), x)
        return x
