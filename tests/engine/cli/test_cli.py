"""The command line as a user meets it: help, one-line errors, exit codes, and the main path."""

import errno
import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.tiny_models import tiny_model
from weldlm.cli import main
from weldlm.interrupt import Terminated
from weldlm.tokenizer import Tokenizer
from weldlm.weights import save_pretrained

CORPUS = "".join(f"def f{n}(x):\n    return x + {n}\n\n" for n in range(400))


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return int(exit_.value.code or 0)


@pytest.fixture(name="corpus")
def corpus_file(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text(CORPUS)
    return path


@pytest.fixture(name="model_folder")
def saved_model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    tokenizer = Tokenizer.train([CORPUS], 300)
    save_pretrained(tiny_model(vocab_size=tokenizer.vocab_size), folder)
    tokenizer.save(folder / "tokenizer.json")
    return folder


def test_help_needs_no_torch() -> None:
    program = (
        "import sys; sys.argv[1:] = ['--help']\n"
        "from weldlm.cli import main\n"
        "try: main()\n"
        "except SystemExit: sys.exit('torch' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


def processor_seconds_of_help() -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "weldlm", "--help"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_answers_at_once() -> None:
    # processor time, which other work on the machine does not stretch
    assert min(processor_seconds_of_help() for _ in range(5)) < 0.3


@pytest.mark.parametrize(
    "command",
    [
        ["demo"],
        ["tokenizer"],
        ["tokenizer", "train"],
        ["train"],
        ["generate"],
        ["info"],
        ["convert"],
        ["backends"],
    ],
    ids=" ".join,
)
def test_every_command_explains_itself(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*command, "--help") == 0
    assert "Usage: weldlm" in capsys.readouterr().out


def test_text_becomes_a_model_that_generates(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    settings = ("--steps", 2, "--rows-per-step", 2, "--context-length", 32)

    trained = run("train", "--data", corpus, "--out", out, "--vocab-size", 300, *settings)
    model = json.loads(capsys.readouterr().out)["model"]
    code = run("generate", "--model", model, "--prompt", "def", "--max-tokens", 4)

    assert (trained, code) == (0, 0)
    assert capsys.readouterr().out.startswith("def")
    assert (out / "loss.svg").is_file()


def test_resuming_a_finished_run_changes_nothing(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("train", "--data", corpus, "--out", tmp_path / "run", "--vocab-size", 300)
    arguments += ("--steps", 2, "--rows-per-step", 2, "--context-length", 32)
    run(*arguments)
    first = capsys.readouterr().out

    assert run(*arguments, "--resume") == 0
    assert capsys.readouterr().out == first


def test_resuming_with_another_vocabulary_is_refused(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("train", "--data", corpus, "--out", tmp_path / "run", "--steps", 1)
    arguments += ("--rows-per-step", 2, "--context-length", 32)
    run(*arguments, "--vocab-size", 300)

    code = run(*arguments, "--vocab-size", 310, "--resume")

    assert code == 2
    assert "was prepared with vocabulary of size 300, but of size 310" in capsys.readouterr().err


def test_resuming_with_other_data_is_refused(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("train", "--data", corpus, "--out", tmp_path / "run", "--steps", 1)
    arguments += ("--rows-per-step", 2, "--context-length", 32, "--vocab-size", 300)
    run(*arguments)
    corpus.write_text(CORPUS + "more\n")

    code = run(*arguments, "--resume")

    assert code == 2
    assert "was prepared from other texts" in capsys.readouterr().err


def test_a_bare_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert "\nCommands:\n" in capsys.readouterr().err


def test_a_file_of_prompts_becomes_a_file_of_completions(
    model_folder: Path, tmp_path: Path
) -> None:
    prompts, output = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    prompts.write_text("def f1\nreturn x\n")

    code = run("generate", "--model", model_folder, "-i", prompts, "-o", output, "--max-tokens", 3)

    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert code == 0
    assert {row["prompt"] for row in rows} == {"def f1", "return x"}


def test_a_bad_row_gives_exit_code_3(model_folder: Path, tmp_path: Path) -> None:
    prompts, output = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    prompts.write_text('{"prompt": "def"}\n{"prompt": 3}\n')

    code = run("generate", "--model", model_folder, "-i", prompts, "-o", output, "--max-tokens", 3)

    assert code == 3
    assert sum("error" in json.loads(line) for line in output.read_text().splitlines()) == 1


def test_learned_tokenizer_is_written(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "tokenizer.json"

    assert run("tokenizer", "train", corpus, "--vocab-size", 300, "--out", out) == 0
    assert Tokenizer.from_file(out).vocab_size == 300


def test_a_short_text_gets_a_smaller_vocabulary(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tokenizer.json"

    assert run("tokenizer", "train", corpus, "--out", out) == 0
    size = Tokenizer.from_file(out).vocab_size
    assert 257 < size < 8_192
    assert f"supports a vocabulary of {size:,} tokens" in capsys.readouterr().err


OPERATIONS = (
    "attention",
    "gated_mlp",
    "layer_norm",
    "linear_cross_entropy",
    "linear_kl_divergence",
    "paged_attention",
    "quantized_linear",
    "rms_norm",
    "rotary",
    "sampling",
    "write_kv",
)


@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["text", "json"])
def test_backends_names_every_operation(
    as_json: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run("backends", *as_json)

    output = capsys.readouterr().out
    assert [op for op in OPERATIONS if op not in output] == []


BAD_CALLS = {
    "unknown option": (["train", "--dato", "x"], r"No such option '?--dato"),
    "unknown command": (["fly"], "No such command 'fly'"),
    "missing option": (["train", "--out", "{tmp}/run"], "Missing option '--data'"),
    "wrong path": (["train", "--data", "nowhere.txt", "--out", "{tmp}/run", "--steps", "1"],
                   "nowhere.txt does not exist; expected a text file or a folder"),
    "empty corpus": (["train", "--data", "{tmp}/empty.txt", "--out", "{tmp}/run", "--steps", "1"],
                     "holds no text; expected at least one document"),
    "vocabulary too large": (["train", "--data", "{tmp}/corpus.txt", "--out", "{tmp}/run",
                              "--steps", "1", "--vocab-size", "60000"],
                             "--vocab-size is 60000, but these texts support"),
    "nothing to resume": (["train", "--data", "{tmp}/corpus.txt", "--out", "{tmp}/run",
                           "--steps", "1", "--resume"], "holds no run to go on from; leave out"),
    "context of one": (["train", "--data", "{tmp}/corpus.txt", "--out", "{tmp}/run",
                        "--steps", "1", "--context-length", "1"], "--context-length is 1"),
    "row of one": (["train", "--data", "{tmp}/corpus.txt", "--out", "{tmp}/run",
                    "--steps", "1", "--row-length", "1"], "--row-length is 1; expected at least 2"),
    "no steps": (["train", "--data", "{tmp}/corpus.txt", "--out", "{tmp}/run", "--steps", "0"],
                 "--steps is 0; expected at least 1"),
    "no device": (["backends", "--device", "tpu"], "device 'tpu' is not available here"),
    "no budget": (["train", "--data", "{tmp}/corpus.txt", "--out", "{tmp}/run"],
                  "none of steps, epochs and minutes is given"),
    "unknown preset": (["train", "--data", "{tmp}/corpus.txt", "--out", "{tmp}/run",
                        "--steps", "1", "--model", "gpt9"], "preset 'gpt9' does not exist"),
    "no TOML": (["train", "--config", "{tmp}/corpus.txt"], r"corpus.txt is not TOML"),
    "vocabulary of a model": (["train", "--data", "{tmp}/corpus.txt", "--out", "{tmp}/run",
                               "--steps", "1", "--model", "{tmp}/model", "--vocab-size", "300"],
                              "--tokenizer and --vocab-size are of new models"),
    "no model": (["generate", "--model", "{tmp}/none", "--prompt", "x"],
                 "config.json does not exist; expected a folder with config.json and weights"),
    "long prompt": (["generate", "--model", "{tmp}/model", "--prompt", "x y " * 200],
                    "expected fewer than the model's context_length 64"),
    "long row": (["train", "--data", "{tmp}/corpus.txt", "--out", "{tmp}/run", "--steps", "1",
                  "--vocab-size", "300", "--row-length", "9999"],
                 "--row-length is 9999; expected at most the context length"),
    "absurd vocabulary": (["tokenizer", "train", "{tmp}/corpus.txt", "--vocab-size", "9" * 20],
                          "is not in the range"),
    "no prompt": (["generate", "--model", "{tmp}/model"], "give either --prompt or --input"),
    "bad temperature": (["generate", "--model", "{tmp}/model", "--prompt", "x",
                         "--temperature", "-1"], "--temperature is -1.0; expected 0"),
    "bad minutes": (["demo", "--minutes", "0"],
                    "--minutes is 0.0; expected a finite number above 0"),
    "no folder": (["tokenizer", "train", "{tmp}/corpus.txt", "--out", "{tmp}/no/t.json"],
                  "is not a folder; make it"),
    "nothing to learn from": (["tokenizer", "train", "{tmp}/empty.txt", "--out", "{tmp}/run"],
                              "holds no text; expected at least one document"),
    "binary corpus": (["train", "--data", "{tmp}/bytes.txt", "--out", "{tmp}/run", "--steps", "1"],
                      "bytes.txt is not UTF-8 .* convert or leave it out"),
    "half a character": (["train", "--data", "{tmp}/half.jsonl", "--out", "{tmp}/run",
                          "--steps", "1"], "half.jsonl:1 holds half a character"),
    "run below a file": (["train", "--data", "{tmp}/corpus.txt", "--out", "{tmp}/corpus.txt/run",
                          "--steps", "1"], "not a directory; give a path that leads through fold"),
    "folder for a file": (["tokenizer", "train", "{tmp}/corpus.txt", "--out", "{tmp}"],
                          "is a directory"),
    "absurd context": (["train", "--data", "{tmp}/corpus.txt", "--out", "{tmp}/run",
                        "--steps", "1", "--context-length", "1" + "0" * 9],
                       "GiB that are available; lower --context-length"),
    "absurd rows": (["train", "--data", "{tmp}/corpus.txt", "--out", "{tmp}/run",
                     "--steps", "1", "--rows-per-step", "1" + "0" * 9],
                    "GiB that are available; lower --context-length, --row-length, --rows-per-st"),
    "endless minutes": (["demo", "--minutes", "1e308", "--out", "{tmp}/run"],
                        "--minutes is .*; expected at most 527040, a year; give fewer"),
    "no number of minutes": (["train", "--data", "{tmp}/corpus.txt", "--out", "{tmp}/run",
                              "--minutes", "nan"], "--minutes is nan; expected a finite number"),
    "all held out": (["train", "--data", "{tmp}/two.jsonl", "--out", "{tmp}/run", "--steps", "1",
                      "--held-out", "0.999999999"], "--held-out is .*, which keeps all text of"),
    "abstract device": (["backends", "--device", "meta"], "--device is 'meta'; expected cpu or cu"),
    "vocabulary given twice": (["train", "--data", "{tmp}/corpus.txt", "--out", "{tmp}/run",
                                "--steps", "1", "--vocab-size", "300", "--tokenizer",
                                "{tmp}/model"], "--vocab-size is of a tokenizer to learn; give"),
    "no prompts at a time": (["generate", "--model", "{tmp}/model", "-i", "{tmp}/corpus.txt",
                              "-o", "{tmp}/run", "--batch-size", "0"],
                             "--batch-size is 0; expected at least 1"),
    "prompts at a time of one": (["generate", "--model", "{tmp}/model", "--prompt", "x",
                                  "--batch-size", "0"], "--batch-size goes with --input; leave"),
    "special prompt": (["generate", "--model", "{tmp}/model", "--prompt", "a<|endoftext|>"],
                       "the prompt holds the special token .*; expected text; leave it out"),
    "prompt of bytes": (["generate", "--model", "{tmp}/model", "--prompt", "a\udcff"],
                        "--prompt holds half a character"),
}  # fmt: skip


@pytest.mark.usefixtures("corpus", "model_folder")
@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_call_is_one_line_and_exit_code_2(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, message = BAD_CALLS[name]
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "bytes.txt").write_bytes(bytes(range(256)))
    (tmp_path / "half.jsonl").write_text('{"text": "a\\ud800"}')
    (tmp_path / "two.jsonl").write_text('{"text": "one"}\n{"text": "two"}')
    before = sorted(tmp_path.rglob("*"))

    code = run(*(argument.format(tmp=tmp_path) for argument in arguments))

    error = capsys.readouterr().err
    assert code == 2
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("place", [0, 1, 5], ids=["first", "behind-the-command", "last"])
def test_traceback_may_stand_anywhere(place: int, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "--data", "nowhere", "--out", "nowhere"]
    arguments += ["--steps=1"]
    arguments.insert(place, "--traceback")

    code = run(*arguments)

    *trace, last = capsys.readouterr().err.splitlines()
    assert code == 2
    assert trace[0] == "Traceback (most recent call last):"
    assert last.startswith("weldlm: nowhere does not exist")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.txt"), 1,
         "a.txt: no space left on device; free some and give the same command again (--traceback"),
        (OSError(errno.EROFS, "Read-only file system", "a.txt"), 2,
         "a.txt: read-only file system; choose another path\n"),
        (PermissionError(errno.EACCES, "Permission denied", "a.txt"), 2,
         "a.txt: permission denied; change its permissions or choose another path\n"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", ".a.partial", None, "a.txt"), 2,
         "a.txt: is a directory; give the path of a file\n"),
        (OSError("checkpoint-3 could not be written"), 1,
         "checkpoint-3 could not be written (--tr"),
        (MemoryError(), 1, "MemoryError (--traceback shows where)"),
        (ValueError("two\nlines"), 2, "two lines\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (Terminated(), 143, "terminated\n"),
    ],
    ids=["full-disk", "read-only", "permission", "renamed", "failure", "memory", "lines", "INT",
         "TERM"],
)  # fmt: skip
def test_an_error_is_one_line_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    message: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("weldlm_kernels.backend.explain", fail)

    assert run("backends") == code
    assert capsys.readouterr().err.lstrip("\n").startswith(f"weldlm: {message}")


def test_an_option_in_a_message_is_one_of_the_command(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = run(
        "train", "--data", corpus, "--out", tmp_path / "r", "--steps", 1, "--vocab-size", 999
    )
    of_train = capsys.readouterr().err
    learned = run("tokenizer", "train", corpus, "--out", tmp_path / "t.json", "--vocab-size", 999)
    of_tokenizer = capsys.readouterr().err

    assert (trained, learned) == (2, 2)
    assert "frequency" not in of_train
    assert "lower --min-frequency" in of_tokenizer


def test_a_path_that_is_called_like_an_option_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert run("train", "--data", "data", "--steps", 1, "--out", "run") == 2
    assert capsys.readouterr().err.startswith("weldlm: data does not exist")
