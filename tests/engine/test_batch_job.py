"""Batch jobs: every row is answered, bad ones by an error, and nothing half done looks complete."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.tiny_models import tiny_config, tiny_model
from weldlm.batch_job import JobCounts, JobFiles, run_batch_job
from weldlm.batch_limits import BatchLimits
from weldlm.cache import CacheStep
from weldlm.generation import generate
from weldlm.packing import PackedBatch
from weldlm.sampling import SamplingSettings
from weldlm.sealed_folder import lock_file
from weldlm.tokenizer import Tokenizer

SETTINGS = SamplingSettings(max_tokens=5, temperature=1.0)
GOOD, BAD = ["def f(x):", "a", "import sys"], "x" * 99


class FailingModel:
    """Gives one token to each row that enters and then breaks down."""

    config = tiny_config(vocab_size=300)

    def parameters(self) -> Iterator[Tensor]:
        yield torch.zeros(1)

    def next_token_logits(self, batch: PackedBatch, _: CacheStep) -> Tensor:
        if int(batch.positions[0]) > 0:
            raise RuntimeError("broken")
        return torch.zeros(batch.num_sequences, 300)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["no pair occurs twice"], 257, min_frequency=9)


def files(folder: Path, content: str | bytes, name: str = "in.jsonl") -> JobFiles:
    prompts = folder / name
    prompts.write_bytes(content if isinstance(content, bytes) else content.encode())
    return JobFiles(prompts, folder / "out.jsonl")


def run(job: JobFiles, tokenizer: Tokenizer, **options: Any) -> JobCounts:
    return run_batch_job(tiny_model(vocab_size=300), tokenizer, job, SETTINGS, **options)


def json_lines(*prompts: str) -> str:
    return "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of an output in the order of their index."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    return sorted(rows, key=lambda row: row["index"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("in.jsonl", json_lines(*GOOD), id="jsonl"),
        pytest.param("in.txt", "\n".join(GOOD) + "\n", id="text"),
        pytest.param("in.txt", "\n".join(GOOD), id="text-without-last-newline"),
        pytest.param("in.txt", "\ufeff" + "\r\n".join(GOOD) + "\r\n", id="text-of-windows"),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_rows_equal_those_of_generate(
    tmp_path: Path, tokenizer: Tokenizer, name: str, content: str, batch_size: int
) -> None:
    job = files(tmp_path, content, name)

    counts = run(job, tokenizer, limits=BatchLimits(batch_size=batch_size))

    expected = generate(tiny_model(vocab_size=300), tokenizer, GOOD, SETTINGS)
    assert counts == JobCounts(num_completed=3, num_failed=0)
    assert read_rows(job.output) == [
        {
            "index": index,
            "prompt": GOOD[index],
            "completion": completion.text,
            "finish_reason": completion.finish_reason,
            "num_prompt_tokens": completion.num_prompt_tokens,
            "num_tokens": len(completion.ids),
        }
        for index, completion in enumerate(expected)
    ]


def test_rows_hold_all_that_the_settings_ask_for(tmp_path: Path, tokenizer: Tokenizer) -> None:
    job = files(tmp_path, json_lines(*GOOD))
    settings = SamplingSettings(
        max_tokens=5, temperature=1.0, n=2, logprobs=1, prompt_logprobs=0, min_tokens=2
    )
    model = tiny_model(vocab_size=300)

    run_batch_job(model, tokenizer, job, settings, limits=BatchLimits(batch_size=4))

    expected = generate(model, tokenizer, GOOD, settings)
    for row, completion in zip(read_rows(job.output), expected, strict=True):
        (other,) = completion.others
        assert (row["completion"], row["others"][0]["completion"]) == (completion.text, other.text)
        assert row["logprobs"] == [
            [one.id, one.logprob, [[*pair] for pair in one.top]]
            for one in completion.logprobs or ()
        ]
        assert row["prompt_logprobs"] == [
            [one.id, one.logprob, []] for one in completion.prompt_logprobs or ()
        ]


BAD_ROWS = [
    pytest.param(b'{"prompt": "a', "the line is not valid JSON", id="torn"),
    pytest.param(b'{"prompt": 3}', 'the line has no text under "prompt"', id="number"),
    pytest.param(b'{"prompt": ""}', 'the line has no text under "prompt"', id="empty-prompt"),
    pytest.param(b'{"text": "a"}', 'the line has no text under "prompt"', id="other-key"),
    pytest.param(b'["a"]', 'the line has no text under "prompt"', id="list"),
    pytest.param(b"", "the line is not valid JSON", id="empty-line"),
    pytest.param(b"[" * 100_000, "the line is JSON nested too deep", id="nested"),
    pytest.param(b'{"prompt": "\xff"}', "the line is not UTF-8", id="not-utf-8"),
    pytest.param(json.dumps({"prompt": BAD}).encode(), "the prompt has 99 tokens", id="too-long"),
    pytest.param(b'{"prompt": "a\\ud800"}', "the lone surrogate '\\ud800'", id="half-character"),
    pytest.param(
        b'{"prompt": "<|endoftext|>"}',
        "the prompt holds the special token '<|endoftext|>'; expected text; leave it out",
        id="special-token",
    ),
]


@pytest.mark.parametrize(("line", "message"), BAD_ROWS)
def test_a_bad_row_becomes_an_error_row_and_the_others_are_as_ever(
    tmp_path: Path, tokenizer: Tokenizer, line: bytes, message: str
) -> None:
    good = [json_lines(prompt).encode() for prompt in GOOD]
    job = files(tmp_path, good[0] + line + b"\n" + good[2])
    (tmp_path / "good").mkdir()
    good_job = files(tmp_path / "good", b"".join(good))

    counts = run(job, tokenizer)
    run(good_job, tokenizer)

    first, error, last = read_rows(job.output)
    expected = read_rows(good_job.output)
    assert counts == JobCounts(num_completed=2, num_failed=1)
    assert [first, last] == [expected[0], expected[2]]
    assert error.keys() == {"index", "error"}
    assert message in error["error"]


def test_an_empty_line_of_text_is_an_error_row(tmp_path: Path, tokenizer: Tokenizer) -> None:
    job = files(tmp_path, "a\n\nb\n", "in.txt")

    run(job, tokenizer)

    assert read_rows(job.output)[1] == {"index": 1, "error": "the line is empty; expected a prompt"}


def test_a_file_of_bad_rows_is_answered_in_full(tmp_path: Path, tokenizer: Tokenizer) -> None:
    job = files(tmp_path, "[]\n{}\n")

    assert run(job, tokenizer) == JobCounts(num_completed=0, num_failed=2)
    assert [row["index"] for row in read_rows(job.output)] == [0, 1]


def test_text_in_any_language_comes_back_as_it_is(tmp_path: Path, tokenizer: Tokenizer) -> None:
    prompt = 'Gr\u00fc\u00dfe "\u96ea" \u2603\u2028\n\U0001f600'
    job = files(tmp_path, json_lines(prompt))

    run(job, tokenizer)

    assert [row["prompt"] for row in read_rows(job.output)] == [prompt]


def test_progress_is_reported_row_by_row(tmp_path: Path, tokenizer: Tokenizer) -> None:
    reports: list[tuple[int, int]] = []

    run(
        files(tmp_path, json_lines("a", BAD, "b")),
        tokenizer,
        report=lambda num_done, num_rows: reports.append((num_done, num_rows)),
    )

    assert reports == [(1, 3), (2, 3), (3, 3)]


def test_a_finished_job_leaves_only_its_output(tmp_path: Path, tokenizer: Tokenizer) -> None:
    run(files(tmp_path, json_lines(*GOOD)), tokenizer)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_a_job_that_breaks_down_keeps_its_rows_under_another_name(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    job = files(tmp_path, json_lines("a", BAD, "b"))

    with pytest.raises(RuntimeError, match="broken"):
        run_batch_job(FailingModel(), tokenizer, job, SETTINGS)

    assert not job.output.exists()
    assert [row["index"] for row in read_rows(job.partial)] == [1]


def test_rows_are_on_disk_as_soon_as_they_finish(tmp_path: Path, tokenizer: Tokenizer) -> None:
    job = files(tmp_path, json_lines(*GOOD))
    on_disk: list[int] = []

    def count_rows(*_: int) -> None:
        on_disk.append(len(read_rows(job.partial)))

    run(job, tokenizer, limits=BatchLimits(batch_size=1), report=count_rows)

    assert on_disk == [1, 2, 3]


def test_a_job_that_breaks_down_before_its_first_row_leaves_nothing(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    job = files(tmp_path, json_lines("a"))

    with pytest.raises(RuntimeError, match="broken"):
        run_batch_job(FailingModel(), tokenizer, job, SETTINGS)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]


@pytest.mark.parametrize("left", ["out.jsonl", "out.jsonl.partial"])
def test_earlier_results_are_never_overwritten(
    tmp_path: Path, tokenizer: Tokenizer, left: str
) -> None:
    job = files(tmp_path, json_lines(*GOOD))
    (tmp_path / left).write_text("earlier")

    with pytest.raises(FileExistsError, match=rf"^[^\n]*{left} [^\n]*delete it[^\n]*$"):
        run(job, tokenizer)

    assert (tmp_path / left).read_text() == "earlier"


def interrupt(job: JobFiles, tokenizer: Tokenizer, *, after: int, **options: Any) -> None:
    """Runs the job until it has written `after` rows."""

    def stop(done: int, _all: int) -> None:
        if done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(job, tokenizer, report=stop, **options)


@pytest.mark.parametrize("torn", ["", '{"index": 2, "pro'], ids=["whole-lines", "torn-line"])
@pytest.mark.parametrize("after", [1, 3])
def test_an_interrupted_job_goes_on_and_ends_as_if_it_had_not_been(
    tmp_path: Path, tokenizer: Tokenizer, after: int, torn: str
) -> None:
    content = json_lines(*GOOD, BAD, *GOOD)
    (tmp_path / "whole").mkdir()
    whole = files(tmp_path / "whole", content)
    counts = run(whole, tokenizer)
    job = files(tmp_path, content)
    interrupt(job, tokenizer, after=after, limits=BatchLimits(batch_size=2))
    with job.partial.open("a", encoding="utf-8") as file:
        file.write(torn)

    assert run(job, tokenizer) == counts
    assert read_rows(job.output) == read_rows(whole.output)
    names = ["in.jsonl", "out.jsonl", "out.jsonl.job.json", "whole"]  # of a job with a bad row
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_rows_of_another_job_are_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    job = files(tmp_path, json_lines(*GOOD))
    interrupt(job, tokenizer, after=1)
    other = SamplingSettings(max_tokens=6, temperature=1.0)

    with pytest.raises(FileExistsError, match="rows of a job with another max_tokens; give the"):
        run_batch_job(tiny_model(vocab_size=300), tokenizer, job, other)

    assert len(read_rows(job.partial)) == 1


@pytest.mark.parametrize(
    ("prompts", "output", "error", "message"),
    [
        pytest.param("in.csv", "out", ValueError, r"in.csv .* a name in .txt or .jsonl", id="name"),
        pytest.param("no.txt", "out", FileNotFoundError, "no.txt does not exist", id="no-input"),
        pytest.param("in.txt", "no/out", FileNotFoundError, "no is not a folder", id="no-folder"),
        pytest.param("in.txt", "out", ValueError, "in.txt is empty; expected", id="empty"),
    ],
)
def test_files_that_do_not_fit_are_refused_and_nothing_is_left(
    tmp_path: Path,
    tokenizer: Tokenizer,
    prompts: str,
    output: str,
    error: type[Exception],
    message: str,
) -> None:
    (tmp_path / "in.txt").touch()
    (tmp_path / "in.csv").touch()

    with pytest.raises(error, match=rf"^[^\n]*{message}[^\n]*$"):
        run(JobFiles(tmp_path / prompts, tmp_path / output), tokenizer)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "in.txt"]


def test_rows_of_another_tokenizer_are_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    job = files(tmp_path, json_lines(*GOOD))
    interrupt(job, tokenizer, after=1)
    # the same tokens, other merges
    other = Tokenizer.train(["ab ab"], 258)

    with pytest.raises(FileExistsError, match="rows of a job with another tokenizer; give the"):
        run(job, other)


def test_an_output_is_written_by_one_program_at_a_time(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    job = files(tmp_path, json_lines(*GOOD))

    with (
        lock_file(job.output),
        pytest.raises(BlockingIOError, match=r"^[^\n]*out.jsonl is in use by another program"),
    ):
        run(job, tokenizer)

    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_an_output_made_meanwhile_is_kept_and_the_job_can_be_finished(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    job = files(tmp_path, json_lines(*GOOD))

    with pytest.raises(FileExistsError, match=r"^[^\n]*rows are in [^\n]*out.jsonl.partial; move"):
        run(job, tokenizer, report=lambda *_: job.output.write_text("theirs"))
    theirs = job.output.read_text()
    job.output.unlink()

    assert run(job, tokenizer) == JobCounts(num_completed=3, num_failed=0)
    assert theirs == "theirs"


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_bad_batch_size_is_refused_before_anything_is_written(
    tmp_path: Path, tokenizer: Tokenizer, batch_size: int
) -> None:
    job = files(tmp_path, json_lines(*GOOD))

    with pytest.raises(ValueError, match=f"batch_size is {batch_size}; expected at least 1"):
        run(job, tokenizer, limits=BatchLimits(batch_size=batch_size))

    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_memory_is_taken_for_the_prompts_there_are(tmp_path: Path, tokenizer: Tokenizer) -> None:
    # 10**9 sequences of 10**7 tokens would take 10**18 bytes and more
    model = tiny_model("llama-tiny", vocab_size=300, context_length=10**7)
    job = files(tmp_path, json_lines(*GOOD))

    counts = run_batch_job(model, tokenizer, job, SETTINGS, limits=BatchLimits(batch_size=10**9))

    assert counts == JobCounts(num_completed=3, num_failed=0)
