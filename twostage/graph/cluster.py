"""Executor on a cluster: a job for each node through submitit, its inputs' jobs as dependencies on SLURM."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eqvae.files import write_atomically
from twostage.graph.executor import Executor
from twostage.graph.node import Work
from twostage.graph.store import DONE, FAILED, Outcome, Task, do_task

JOBS = "jobs"
STARTED, ENDED = "started.txt", " ended"
CHECK_SECONDS = 1.0
DEFAULTS = {"timeout_min": 24 * 60}


class SubmititExecutor:
    """Hands tasks to submitit. On SLURM all at once, the scheduler keeping their order; locally as inputs finish.

    A job whose time is up is queued again by submitit and goes on; a training saves its step before. Jobs outlive this
    process; started again, a sweep finds what they finished, and the lock of a node keeps two jobs off it.

    Args:
        settings: `cluster`, `parameters` and, for jobs that train, `training_parameters`; with several tasks per node
            Lightning trains on all of them.

    Raises:
        ValueError: submitit is not installed, or does not know the cluster or a parameter.
    """

    def __init__(self, work: Work, settings: Executor):
        try:
            import submitit
        except ImportError:
            raise ValueError(
                "executor.kind submitit needs the package submitit: pip install 'eqvae[cluster]'"
            ) from None
        self.submitit, self.work, self.settings = submitit, work, settings
        self.orders_tasks = settings.cluster == "slurm"
        self.jobs: dict[str, tuple[Task, Any]] = {}
        self.job_ids: dict[Path, str] = {}

    def free(self) -> int:
        return 1_000_000

    def submit(self, task: Task) -> None:
        folder = task.folder.parent / JOBS / task.folder.name
        try:
            executor = self.submitit.AutoExecutor(folder=folder, cluster=self.settings.cluster)
            executor.update_parameters(**self._parameters(task))
        except (RuntimeError, NameError, ValueError, TypeError) as error:
            raise ValueError(f"executor.parameters: {' '.join(str(error).split())}") from None
        job = executor.submit(NodeJob(task, self.work))
        self.jobs[task.address], self.job_ids[task.folder] = (task, job), job.job_id

    def _parameters(self, task: Task) -> dict[str, Any]:
        parameters: dict[str, Any] = DEFAULTS | self.settings.parameters | {"name": task.name}
        if task.trains:
            parameters |= self.settings.training_parameters
        before = [self.job_ids[folder] for folder in task.inputs.values() if folder in self.job_ids]
        if self.orders_tasks and before:
            order = {"dependency": "afterok:" + ":".join(before), "kill-on-invalid-dep": "yes"}
            key = "slurm_additional_parameters"
            parameters[key] = parameters.get(key, {}) | order
        return parameters

    def poll(self, seconds: float) -> Iterator[Outcome]:
        """Jobs that ended; `seconds` later where none has."""
        ended = [address for address, (_, job) in self.jobs.items() if job.done()]
        if not ended:
            time.sleep(max(seconds, CHECK_SECONDS if self.orders_tasks else seconds))
        for address in ended:
            task, job = self.jobs.pop(address)
            yield _outcome(task, job)

    def close(self) -> None:
        """Leave the jobs to the cluster; on this machine nobody would look after them, so they are ended."""
        for _, job in self.jobs.values():
            if not self.orders_tasks:
                job.cancel()


def _outcome(task: Task, job: Any) -> Outcome:
    if (task.folder / DONE).is_file():
        return Outcome(task.address, "done")
    if (task.folder / FAILED).is_file():
        return Outcome(task.address, "failed", json.loads((task.folder / FAILED).read_text())["error"])
    return Outcome(task.address, "failed", f"job {job.job_id} ended as {job.state} (its output: {job.paths.stderr})")


class NodeJob:
    """What a job runs: the task, with a way for submitit to queue it again when its time is up."""

    def __init__(self, task: Task, work: Work):
        self.task, self.work = task, work

    def __call__(self) -> str:
        """The first process does the task under its lock; the others of a distributed training join it.

        Raises:
            RuntimeError: with the reason, so that jobs that depend on this one are not started.
        """
        if int(os.environ.get("SLURM_PROCID", "0")) > 0:
            return self._join()
        try:
            outcome = do_task(self.task, self._announced, lambda *_: None, wait=True)
        finally:
            if not (self.task.folder / DONE).is_file():  # then all that lies there is recorded
                self._tell(_attempt() + ENDED)
        if outcome.state == "failed":
            raise RuntimeError(outcome.error)
        return outcome.state

    def checkpoint(self) -> Any:
        """Called by submitit before the time is up: the same task again, which resumes by itself."""
        import submitit

        return submitit.helpers.DelayedSubmission(NodeJob(self.task, self.work))

    def _announced(self, kind: str, folder: Path, *arguments: Any) -> None:
        self._tell(_attempt())
        self.work(kind, folder, *arguments)

    def _tell(self, word: str) -> None:
        """What this process is at, to those that wait in `_join`."""
        write_atomically(self.task.folder / STARTED, word.encode())

    def _join(self) -> str:
        """Wait until the first process has the lock and begins, finds the node done, or ends without beginning."""
        started, told = self.task.folder / STARTED, ""
        while not (self.task.folder / DONE).is_file() and told != _attempt() + ENDED:
            told = started.read_text() if started.is_file() else ""
            if told == _attempt():
                self.work(self.task.kind, self.task.folder, self.task.settings, self.task.inputs, lambda *_: None)
                break
            time.sleep(CHECK_SECONDS)
        return "joined"


def _attempt() -> str:
    """Names this run of this job, a requeued one being another."""
    return f"{os.environ.get('SLURM_JOB_ID', '')} {os.environ.get('SLURM_RESTART_COUNT', '0')}"
