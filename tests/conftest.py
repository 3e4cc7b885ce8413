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


MAX_WORKERS = 8  # each takes about a gigabyte


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker a core for the whole suite; none for named files, which start sooner alone."""
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return min(len(os.sched_getaffinity(0)), MAX_WORKERS) if is_whole else 0


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is compiled and kept does not outlive the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
