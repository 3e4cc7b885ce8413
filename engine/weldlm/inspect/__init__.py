"""What goes on in a model that reads a text: attention, layers, and where its answer comes from.

Every function returns plain tensors or a dataclass of them, and leaves the model as it was.
"""

from weldlm.inspect.ablation import Ablation, Head, ablate_heads, head_losses
from weldlm.inspect.attention import attention_maps, attention_rollout
from weldlm.inspect.attribution import Attribution, attribute_tokens, integrate_gradients
from weldlm.inspect.logit_lens import LogitLens, hidden_states, layer_logits, logit_lens
from weldlm.inspect.neighbors import nearest_tokens
from weldlm.inspect.sample import AttentionKind, Sample

__all__ = [
    "Ablation",
    "AttentionKind",
    "Attribution",
    "Head",
    "LogitLens",
    "Sample",
    "ablate_heads",
    "attention_maps",
    "attention_rollout",
    "attribute_tokens",
    "head_losses",
    "hidden_states",
    "integrate_gradients",
    "layer_logits",
    "logit_lens",
    "nearest_tokens",
]
