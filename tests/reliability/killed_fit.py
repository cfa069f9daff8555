"""A fit that sends itself a signal: `python -m tests.reliability.killed_fit STAGE FOLDER CACHE STEP SIGNAL`."""

import os
import sys
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback

from tests.reliability.runs import create_run


class KillAtStep(Callback):
    """Signals its own process in the middle of a step; SIGKILL ends it without a word."""

    def __init__(self, step: int, number: int):
        self.step, self.number = step, number

    def on_before_optimizer_step(self, trainer, module, optimizer):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


if __name__ == "__main__":
    torch.set_num_threads(1)  # as the tests it is compared with
    stage, folder, cache, step, number = sys.argv[1:]
    cli = create_run(int(stage), Path(folder), Path(cache), callbacks=[KillAtStep(int(step), int(number))])
    cli.trainer.fit(cli.model, cli.datamodule)
