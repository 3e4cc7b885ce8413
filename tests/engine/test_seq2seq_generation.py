"""Generation with encoder-decoders: cached equals uncached, and equals transformers."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.test_seq2seq_families import CASES, FAMILIES, ours_of, theirs_of
from weldlm.batch_job import JobFiles, run_batch_job
from weldlm.cli import main
from weldlm.generation import BatchLimits, complete, generate, stream
from weldlm.heads import Seq2SeqLM
from weldlm.packing import PackedBatch
from weldlm.prompt import Prompt
from weldlm.sampling import SamplingSettings, sample
from weldlm.tokenizer import Tokenizer
from weldlm.weights import save_pretrained

LENGTHS = (5, 17, 1, 31)
GREEDY = SamplingSettings(max_tokens=8)
SAMPLED = SamplingSettings(max_tokens=8, temperature=1.5, top_k=60, top_p=0.98, seed=7)


def sources() -> list[list[int]]:
    generator = torch.Generator().manual_seed(11)
    return [torch.randint(5, 97, (length,), generator=generator).tolist() for length in LENGTHS]


def lively(model: Seq2SeqLM) -> Seq2SeqLM:
    """A model whose tokens depend on its source and on what came before."""
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return model.eval()


def uncached(
    model: Seq2SeqLM, source: Sequence[int], settings: SamplingSettings, row_id: int
) -> tuple[int, ...]:
    """By definition: source and the whole target go through the model for each token."""
    target = [model.config.decoder_start_id or 0]
    batch = PackedBatch.from_sequences([source])
    with torch.inference_mode():
        while len(target) <= settings.max_tokens and model.config.eos_id not in target[1:]:
            logits = model.logits(batch, PackedBatch.from_sequences([target]))[-1:]
            row_ids, positions = torch.tensor([row_id]), torch.tensor([len(target)])
            target += sample(logits, settings, row_ids=row_ids, positions=positions).tolist()
    return tuple(target[1:])


@FAMILIES
@pytest.mark.parametrize(
    ("settings", "batch_size"),
    [(GREEDY, 1), (GREEDY, 4), (SAMPLED, 2)],
    ids=["greedy-1", "greedy-4", "sampled-2"],
)
def test_cached_equals_uncached(
    tmp_path: Path, name: str, settings: SamplingSettings, batch_size: int
) -> None:
    model = lively(ours_of(name, tmp_path))

    completions = generate(model, None, sources(), settings, batch_size=batch_size)

    expected = [uncached(model, source, settings, row) for row, source in enumerate(sources())]
    assert [completion.ids for completion in completions] == expected
    assert [completion.num_prompt_tokens for completion in completions] == list(LENGTHS)
    assert len(set(expected)) > 1


@FAMILIES
def test_greedy_tokens_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    save_pretrained(lively(ours_of(name, tmp_path / "theirs")), tmp_path / "ours")
    theirs = type(theirs_of(name)).from_pretrained(tmp_path / "ours").eval()
    options: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, "use_cache": False}

    found = generate(ours_again(tmp_path), None, sources(), GREEDY)

    expected = [
        theirs.generate(torch.tensor([source]), **options)[0, 1:].tolist() for source in sources()
    ]
    assert [list(completion.ids) for completion in found] == expected


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_a_long_target_is_that_of_transformers(tmp_path: Path, name: str) -> None:
    save_pretrained(lively(ours_of(name, tmp_path / "theirs")), tmp_path / "ours")
    theirs = type(theirs_of(name)).from_pretrained(tmp_path / "ours").eval()
    ours, source = ours_again(tmp_path), sources()[1]
    eos_id = ours.config.eos_id
    settings = SamplingSettings(max_tokens=63, bad_ids=((eos_id,),) if eos_id is not None else ())

    (found,) = generate(ours, None, [source], settings)

    options: dict[str, Any] = {"max_new_tokens": 63, "min_new_tokens": 63, "use_cache": False}
    expected = theirs.generate(torch.tensor([source]), do_sample=False, **options)[0, 1:]
    assert list(found.ids) == expected.tolist()
    assert len(found.ids) == 63


def ours_again(folder: Path) -> Seq2SeqLM:
    from weldlm.weights import load_pretrained

    return load_pretrained(folder / "ours", Seq2SeqLM).eval()


@FAMILIES
def test_every_source_is_read_once(tmp_path: Path, name: str) -> None:
    model = lively(ours_of(name, tmp_path))
    rows: dict[str, int] = {"encoder": 0, "keys": 0}

    def count(key: str) -> Any:
        def hook(_: Any, __: Any, output: torch.Tensor) -> None:
            rows[key] += len(output)

        return hook

    model.encoder.register_forward_hook(count("encoder"))
    for block in model.decoder.blocks:
        block.cross_attention.kv.register_forward_hook(count("keys"))

    prompts = [Prompt(row, source) for row, source in enumerate(sources())]
    # the rows that make batches invariant would be counted as well
    limits = BatchLimits(batch_size=2, is_batch_invariant=False)
    completions = list(complete(model, None, prompts, GREEDY, limits=limits))

    assert len(completions) == len(LENGTHS)
    assert rows == {"encoder": sum(LENGTHS), "keys": model.config.num_layers * sum(LENGTHS)}


@pytest.fixture(name="folder")
def t5_folder(tmp_path: Path) -> Path:
    """A tiny T5 with a tokenizer of letters."""
    tokenizer = Tokenizer.train(["a b c d e f " * 9], 260, allow_smaller=True)
    sizes = CASES["t5"][2] | {"vocab_size": tokenizer.vocab_size, "eos_token_id": 0}
    from transformers import AutoConfig

    from tests.engine.their_models import their_model

    their_model(AutoConfig.for_model("t5", **sizes), CASES["t5"][1]).save_pretrained(tmp_path)
    tokenizer.save(tmp_path / "tokenizer.json")
    return tmp_path


def test_the_command_prints_the_target_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--prompt", "a b c", "--max-tokens", "5", "--model", str(folder)]

    with pytest.raises(SystemExit) as exit_:
        main(["generate", *arguments])

    model, tokenizer = t5_of(folder)
    (expected,) = generate(model, tokenizer, ["a b c"], SamplingSettings(max_tokens=5))
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"{expected.text}\n"
    assert expected.text


def t5_of(folder: Path) -> tuple[Seq2SeqLM, Tokenizer]:
    from weldlm.weights import load_pretrained

    return load_pretrained(folder, Seq2SeqLM).eval(), Tokenizer.from_pretrained(folder)


def test_streamed_pieces_are_the_text(folder: Path) -> None:
    model, tokenizer = t5_of(folder)
    settings = SamplingSettings(max_tokens=20, temperature=3.0)

    pieces = list(stream(model, tokenizer, "a b c", settings))

    (expected,) = generate(model, tokenizer, ["a b c"], settings)
    assert "".join(pieces) == expected.text


def test_a_file_of_prompts_is_completed(folder: Path, tmp_path: Path) -> None:
    model, tokenizer = t5_of(folder)
    (tmp_path / "in.txt").write_text("a b\nc d e f\n")
    files = JobFiles(tmp_path / "in.txt", tmp_path / "out.jsonl")

    counts = run_batch_job(model, tokenizer, files, SamplingSettings(max_tokens=5))

    assert (counts.num_completed, counts.num_failed) == (2, 0)


def test_a_source_beyond_the_context_is_refused(tmp_path: Path) -> None:
    model = ours_of("bart", tmp_path)

    generate(model, None, [[7] * 64], SamplingSettings(max_tokens=2))
    with pytest.raises(ValueError, match="the prompt has 65 tokens; expected at most the model's"):
        generate(model, None, [[7] * 65], SamplingSettings(max_tokens=2))


def test_relative_positions_have_no_end(tmp_path: Path) -> None:
    model, settings = ours_of("t5", tmp_path), SamplingSettings(max_tokens=3)
    source = [7 + place % 80 for place in range(600)]

    (completion,) = generate(model, None, [source], settings)

    assert completion.ids == uncached(model, source, settings, 0)


def test_a_model_without_a_first_target_id_is_refused(tmp_path: Path) -> None:
    model = ours_of("t5", tmp_path)
    model.config = dataclasses.replace(model.config, decoder_start_id=None)

    with pytest.raises(ValueError, match="the model has no decoder_start_id; expected the id"):
        generate(model, None, [[7]], SamplingSettings(max_tokens=2))
