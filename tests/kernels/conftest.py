"""What the tests of several kernels share."""

from collections.abc import Iterator

import pytest

from weldlm_kernels import _cpu


@pytest.fixture(params=_cpu.available_instruction_sets())
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test once on each instruction set of the compiled CPU kernels."""
    previous = _cpu.instruction_set()
    _cpu.force_instruction_set(request.param)
    yield request.param
    _cpu.force_instruction_set(previous)
