"""Peak memory is that of this program, whoever started it."""

import subprocess
import sys

import pytest
import torch

from weldlm.step_meter import peak_memory

MIB = 2**20
CHILD = (
    "import torch; from weldlm.step_meter import peak_memory as p; print(p(torch.device('cpu')))"
)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a child counts as its parent")
def test_a_child_does_not_begin_with_its_parents_size() -> None:
    size = 1_500 * MIB
    held = torch.ones(size, dtype=torch.uint8)

    child = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, check=True
    )

    assert int(child.stdout) < size < peak_memory(torch.device("cpu"))
    assert held.numel() == size
