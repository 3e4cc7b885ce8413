"""A Chrome trace of a few steps: what ran when, on the CPU and on the GPU."""

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from weldlm.callbacks import Callback, StartReport, StepReport, TrainResult

__all__ = ["ProfileCallback"]


class ProfileCallback(Callback):
    """Records steps after those that warm up, and writes the trace once."""

    def __init__(self, path: str | Path, *, skipped_steps: int = 2, steps: int = 3) -> None:
        """
        Args:
            path: of the trace; chrome://tracing and ui.perfetto.dev open it.
            skipped_steps: before the first one that is recorded.
            steps: that are recorded.
        """
        self.path = Path(path)
        self._skipped_steps, self._steps = skipped_steps, steps
        self._first_step = 0
        self._profile: profile | None = None

    def on_start(self, report: StartReport) -> None:
        self._first_step = report.first_step
        if self._skipped_steps == 0:
            self._begin()

    def on_step(self, report: StepReport) -> None:
        done = report.step - self._first_step
        if done == self._skipped_steps:
            self._begin()
        elif done == self._skipped_steps + self._steps:
            self._finish()

    def on_end(self, _result: TrainResult | None) -> None:
        self._finish()  # of a run that was shorter

    def _begin(self) -> None:
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(activities=activities)
        self._profile.start()

    def _finish(self) -> None:
        if self._profile is not None:
            self._profile.stop()
            self._profile.export_chrome_trace(str(self.path))
            self._profile = None
