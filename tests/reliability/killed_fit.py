"""A fit that kills itself with SIGKILL: `python -m tests.reliability.killed_fit STAGE FOLDER CACHE STEP`."""

import os
import signal
import sys
from pathlib import Path

from lightning.pytorch.callbacks import Callback

from tests.reliability.runs import create_run


class KillAtStep(Callback):
    """Ends the process without a word in the middle of a step."""

    def __init__(self, step: int):
        self.step = step

    def on_before_optimizer_step(self, trainer, module, optimizer):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    stage, folder, cache, step = sys.argv[1:]
    cli = create_run(int(stage), Path(folder), Path(cache), callbacks=[KillAtStep(int(step))])
    cli.trainer.fit(cli.model, cli.datamodule)
