"""What goes on in a model that reads a text: attention, layers, and where its answer comes from.

Every function returns plain tensors or a dataclass of them, and leaves the model as it was.
`inspect_text` does all of it for one text; `write_page`, `write_record` and `write_picture` show
what it saw.
"""

from weldlm.inspect.ablation import Ablation, Head, ablate_heads, head_losses
from weldlm.inspect.attention import attention_maps, attention_rollout
from weldlm.inspect.attribution import Attribution, attribute_tokens, integrate_gradients
from weldlm.inspect.inspection import (
    VIEWS,
    Inspection,
    InspectSettings,
    Neighbors,
    View,
    inspect_text,
)
from weldlm.inspect.logit_lens import LogitLens, hidden_states, layer_logits, logit_lens
from weldlm.inspect.neighbors import nearest_tokens
from weldlm.inspect.page import page_of, write_page
from weldlm.inspect.picture import require_matplotlib, write_picture
from weldlm.inspect.record import as_record, write_record
from weldlm.inspect.sample import AttentionKind, Sample

__all__ = [
    "VIEWS",
    "Ablation",
    "AttentionKind",
    "Attribution",
    "Head",
    "InspectSettings",
    "Inspection",
    "LogitLens",
    "Neighbors",
    "Sample",
    "View",
    "ablate_heads",
    "as_record",
    "attention_maps",
    "attention_rollout",
    "attribute_tokens",
    "head_losses",
    "hidden_states",
    "inspect_text",
    "integrate_gradients",
    "layer_logits",
    "logit_lens",
    "nearest_tokens",
    "page_of",
    "require_matplotlib",
    "write_page",
    "write_picture",
    "write_record",
]
