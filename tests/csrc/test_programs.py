"""The C++ test programs, built under AddressSanitizer and UndefinedBehaviorSanitizer."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FOLDERS = [HERE, *(path.parent for path in HERE.glob("*/CMakeLists.txt"))]

needs_compiler = pytest.mark.skipif(
    not (shutil.which("cmake") and shutil.which("ctest") and shutil.which("c++")),
    reason="cmake, ctest or a C++ compiler is absent",
)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_programs_pass_under_the_sanitizers(folder: Path, tmp_path: Path) -> None:
    configured = run("cmake", "-S", folder, "-B", tmp_path)
    built = run("cmake", "--build", tmp_path, "--parallel", "2")

    tested = run("ctest", "--test-dir", tmp_path, "--output-on-failure", "--no-tests=error")

    assert tested.returncode == 0, "\n".join(
        step.stdout[-4000:] + step.stderr[-4000:] for step in (configured, built, tested)
    )
