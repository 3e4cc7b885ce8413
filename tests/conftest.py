"""Settings of all tests."""

import os

# tensors are tiny here: one thread is faster than two, which also spin against whatever else runs
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # for the commands that tests start

from hypothesis import settings

# how long an example takes says nothing on a machine that others use
settings.register_profile("weldlm", deadline=None)
settings.load_profile("weldlm")
