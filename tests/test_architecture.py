"""Holds the tree to its design: import direction, sizes of files and functions, public names."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "engine").rglob("*.py")) + sorted((ROOT / "kernels").rglob("*.py"))
CODE = [
    path
    for folder in ("engine", "kernels", "csrc", "benchmarks", "tests", "examples")
    for suffix in ("py", "pyi", "cpp", "hpp")
    for path in sorted((ROOT / folder).rglob(f"*.{suffix}"))
    if not path.name.startswith("generated_")
]

# a module imports only modules of the rows above its own, or of its own folder
IMPORT_ORDER = (
    (
        "atomic_file",
        "available_memory",
        "collator",
        "ema",
        "disk_space",
        "extra_packages",
        "field_types",
        "gguf_file",
        "loss_scale",
        "step_meter",
        "task_metrics",
        "text_file",
        "toml_text",
    ),
    (
        "packing",
        "config",
        "tokenizer",
        "sealed_folder",
        "train_settings",
        "interrupt",
        "precision",
        "placement",
    ),
    ("memory", "schedules"),
    ("batch_limits", "block_pool", "sampling_settings", "token_logprobs"),
    ("score_filters", "token_rules", "completion", "encoder_queue"),
    ("layers", "families", "data", "stopped_text", "prompt", "beam_search"),
    ("transformer", "chat_prompt"),
    ("heads", "muon"),
    ("weights",),
    ("adapters", "quantization", "cheaper_attention"),
    (
        "objectives",
        "optim",
        "cache",
        "sampling",
        "patching",
        "callbacks",
        "model_info",
        "model_card",
        "source_memory",
    ),
    ("generation_request", "packed_linear"),
    ("block_table", "token_choice"),
    ("scheduler",),
    ("forward",),
    ("engine",),
    (
        "trainer_callback",
        "lightning_callback",
        "tensorboard_callback",
        "profile_callback",
        "distributed",
    ),
    ("checkpoint", "token_loss", "metrics", "progress", "training_data", "trouble"),
    ("step_share", "validation", "convert"),
    ("training_loop", "pretraining"),
    ("pacing",),
    ("trainer", "generation", "conversation", "encoding"),
    ("openai_api", "scoring", "distill"),
    ("job_record", "prompt_file", "tasks", "completion_fields"),
    ("job_output",),
    (
        "finetune",
        "batch_job",
        "job_merge",
        "encoder_job",
        "encoder_answers",
        "predict_job",
        "serve",
        "inspect",
        "bench",
        "loss_curve",
    ),
    ("evaluate", "bias", "cost"),
    ("demo", "doctor"),
    ("cli",),
    ("__main__",),
)
RANKS = {module: rank for rank, row in enumerate(IMPORT_ORDER) for module in row}

MOST_LINES_OF_FILE = 400
MOST_LINES_OF_FUNCTION = 60
MOST_LINES_OF_KERNEL = 90


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported_modules(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


def engine_module(path: Path) -> str:
    return path.relative_to(ROOT / "engine" / "weldlm").parts[0].removesuffix(".py")


def functions(path: Path) -> list[ast.FunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def is_kernel(function: ast.FunctionDef) -> bool:
    return any("triton.jit" in ast.unparse(decorator) for decorator in function.decorator_list)


def ceiling(function: ast.FunctionDef) -> int:
    return MOST_LINES_OF_KERNEL if is_kernel(function) else MOST_LINES_OF_FUNCTION


@pytest.mark.parametrize("path", sorted((ROOT / "kernels").rglob("*.py")), ids=relative)
def test_kernels_know_nothing_of_the_engine(path: Path) -> None:
    assert not [name for name in imported_modules(path) if name.split(".")[0] == "weldlm"]


@pytest.mark.parametrize(
    "path",
    [path for path in (ROOT / "engine" / "weldlm").rglob("*.py") if path.name != "__init__.py"],
    ids=relative,
)
def test_imports_run_one_way(path: Path) -> None:
    here = engine_module(path)

    imported = {name.split(".")[1] for name in imported_modules(path) if name.startswith("weldlm.")}
    backwards = {name for name in imported - {here} if RANKS[name] >= RANKS[here]}

    assert not backwards


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_imports_are_absolute(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))

    relative_imports = [
        node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level
    ]

    assert not relative_imports


@pytest.mark.parametrize("path", CODE, ids=relative)
def test_file_is_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES_OF_FILE


@pytest.mark.parametrize("path", [path for path in CODE if path.suffix == ".py"], ids=relative)
def test_functions_are_small(path: Path) -> None:
    long = {
        function.name: (function.end_lineno or 0) - function.lineno + 1
        for function in functions(path)
        if (function.end_lineno or 0) - function.lineno + 1 > ceiling(function)
    }

    assert not long


@pytest.mark.parametrize("path", CODE, ids=relative)
def test_code_is_ascii(path: Path) -> None:
    assert path.read_text(encoding="utf-8").isascii()


@pytest.mark.parametrize("folder", ["engine", "kernels", "tests"])
def test_source_root_is_no_package(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists()


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_module_has_a_docstring_and_public_names(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assigned = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    assert ast.get_docstring(tree)
    assert path.name == "__main__.py" or "__all__" in assigned


@pytest.mark.parametrize("package", ["weldlm", "weldlm_kernels"])
def test_every_public_name_exists(package: str) -> None:
    module = importlib.import_module(package)

    missing = [name for name in module.__all__ if not hasattr(module, name)]

    assert not missing
