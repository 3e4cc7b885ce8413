"""Settings of all tests."""

import os

# tensors are tiny here: one thread is faster than two, which also spin against whatever else runs
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # for the commands that tests start

from collections.abc import Iterator

import pytest
from hypothesis import settings

# how long an example takes says nothing on a machine that others use
settings.register_profile("weldlm", deadline=None)
settings.load_profile("weldlm")


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is compiled and kept does not outlive the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
