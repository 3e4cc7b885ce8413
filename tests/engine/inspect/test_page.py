"""The page in headless Chromium: nothing in the console, the views are there and answer clicks."""

import base64
import dataclasses
import functools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.engine.browser import visit
from tests.engine.tiny_models import tiny_config
from tests.engine.tiny_tasks import tiny_tokenizer
from weldlm.heads import CausalLM, MaskedLM, Model, Seq2SeqLM, SequenceClassifier
from weldlm.inspect import Inspection, InspectSettings, inspect_text, page_of

HOSTILE = "the film </script><img src=x onerror=alert(1)> & \u2028 \ud800 is great"
SETTINGS = InspectSettings(num_steps=4, top_k=3)


def drawn_model(head: type[Model], name: str, vocab_size: int) -> Model:
    torch.manual_seed(0)
    config = tiny_config(name, vocab_size=vocab_size, labels=("bad", "<b>good</b>"))
    if head is Seq2SeqLM:
        config = dataclasses.replace(config, num_encoder_layers=3, decoder_start_id=0, eos_id=1)
    model = head(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model.eval()


@functools.cache
def inspection(head: type[Model], name: str, text: str, target: str | None = None) -> Inspection:
    tokenizer = tiny_tokenizer("wordpiece" if name == "bert-base" else "bpe")
    model = drawn_model(head, name, tokenizer.vocab_size)
    return inspect_text(model, tokenizer, text, target, SETTINGS, model_name="<i>tiny</i>")


ELEMENTS = """
    const ids = ["text", "attribution", "attribution-text", "lens", "lens-table", "attention",
      "attention-grid", "attention-map", "rollout", "rollout-map", "ablation", "neighbors"];
    return ids.filter((id) => !document.getElementById(id)?.childNodes.length);
"""


@pytest.mark.parametrize(
    ("head", "name", "text", "target"),
    [
        (CausalLM, "llama-tiny", HOSTILE, None),
        (MaskedLM, "bert-base", "the film is [MASK]", None),
        (SequenceClassifier, "bert-base", HOSTILE, None),
        (Seq2SeqLM, "t5-v1.1-small", "the film is great", "we stay in Rome"),
    ],
    ids=["decoder", "encoder", "classifier", "encoder-decoder"],
)
def test_every_view_is_there_and_the_console_empty(
    head: type[Model], name: str, text: str, target: str | None, tmp_path: Path
) -> None:
    page = page_of(inspection(head, name, text, target))

    visited = visit(page, tmp_path, ELEMENTS)

    assert visited.found == []
    assert visited.console == []


CLICKS = """
    const title = () => document.getElementById("attention-title").textContent;
    const before = title();
    const button = document.querySelectorAll("#attention-grid button")[6];
    button.click();
    const clicked = title();
    const cell = document.querySelector("#lens-table td");
    cell.dispatchEvent(new PointerEvent("pointermove", { clientX: 5, clientY: 5 }));
    const tip = document.getElementById("tip").textContent;
    const kinds = [...document.querySelectorAll("#attention > .row button")];
    kinds[2].click();
    const slider = document.querySelector("#rollout input");
    slider.value = 0;
    slider.dispatchEvent(new Event("input"));
    const asked = document.querySelectorAll("#attribution .row button");
    asked[1].click();
    return {
      before, clicked, cross: title(), tip,
      rows: document.querySelectorAll("#attention-map .left span").length,
      columns: document.querySelectorAll("#attention-map .above span").length,
      layer: document.querySelector("#rollout output").textContent,
      pressed: asked[1].getAttribute("aria-pressed"),
      isWide: document.documentElement.scrollWidth > innerWidth,
      ink: getComputedStyle(document.body).color,
    };
"""


def test_clicks_change_what_is_shown(tmp_path: Path) -> None:
    seen = inspection(Seq2SeqLM, "t5-v1.1-small", "the film is great", "we stay in Rome")

    visited = visit(page_of(seen), tmp_path, CLICKS, width=500, is_dark=True)

    found = visited.found
    assert visited.console == []
    assert found["before"] == "encoder, layer 0, head 0"
    assert found["clicked"] == "encoder, layer 1, head 2"
    assert found["cross"] == "decoder to encoder, layer 0, head 0"
    assert found["rows"] == len(seen.reading.target_tokens)
    assert found["columns"] == len(seen.reading.tokens)
    assert "layer 1" in found["tip"]
    assert "entropy" in found["tip"]
    assert found["layer"] == "to layer 0"
    assert found["pressed"] == "true"
    assert not found["isWide"]
    assert found["ink"] == "rgb(231, 233, 237)"  # that of the dark scheme


def test_texts_are_shown_and_never_run(tmp_path: Path) -> None:
    seen = inspection(CausalLM, "llama-tiny", HOSTILE)

    visited = visit(
        page_of(seen),
        tmp_path,
        "return { text: document.getElementById('text').textContent, title: document.title,"
        " name: document.querySelector('h1').textContent,"
        " numImages: document.images.length };",
    )

    assert visited.console == []
    assert visited.found["text"] == HOSTILE.replace("\ud800", "?")
    assert visited.found["name"] == "<i>tiny</i>"
    assert visited.found["title"].startswith("<i>tiny</i>: the film </script>")
    assert visited.found["numImages"] == 0


def test_maps_in_the_page_are_those_that_were_seen() -> None:
    seen = inspection(CausalLM, "llama-tiny", "the film is great")

    page = page_of(seen)

    stored = re.search(r'id="data">(.*?)</script>', page, flags=re.DOTALL)
    assert stored is not None
    packed = json.loads(stored[1])["attention"]["self"]
    values = np.frombuffer(base64.b64decode(packed["data"]), dtype="<u2") / 65_535
    found = torch.from_numpy(values).float().view(packed["shape"])
    torch.testing.assert_close(found, seen.attention["self"], rtol=0, atol=0.5001 / 65_535)


def test_what_a_page_complains_of_is_seen(tmp_path: Path) -> None:
    page = "<html><body><script>console.error('told'); nothing.at.all;</script></body></html>"

    visited = visit(page, tmp_path, "return 7;")

    assert visited.found == 7
    assert visited.console == ["told", "Uncaught ReferenceError: nothing is not defined"]


def test_the_page_asks_for_nothing_from_elsewhere() -> None:
    page = page_of(inspection(CausalLM, "llama-tiny", "the film is great"))

    assert not re.findall(r"https?://|//[a-z]+\.|@import|url\(", page.split('id="data"')[0])
    assert "default-src 'none'" in page
