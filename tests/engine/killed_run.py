"""A program that trains the tiny run and kills itself: python -m tests.engine.killed_run FOLDER
step 7 (after step 7) or sync 13 (at the 13th write that is forced to the disk); `async` behind it
has every checkpoint written in parts while training goes on."""

import os
import signal
import sys
from pathlib import Path

from tests.engine.killed_at_sync import kill_at_sync
from tests.engine.tiny_runs import IN_PARTS, RUN, tiny_trainer
from weldlm.callbacks import Callback, StepReport


class KillAfterStep(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, report: StepReport) -> None:
        if report.step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    folder, what, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    if what == "sync":
        kill_at_sync(number)
    settings = IN_PARTS if sys.argv[4:] == ["async"] else RUN
    callbacks = [KillAfterStep(number)] if what == "step" else []
    tiny_trainer(folder, settings=settings, callbacks=callbacks).fit(resume="auto")


if __name__ == "__main__":
    main()
