"""Where nodes run: the settings that a sweep file has for it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Executor:
    """Where nodes run.

    Args:
        kind: "local", processes of this machine, or "submitit", jobs of a cluster.
        num_workers: local: processes side by side; 0 runs in this process; null: one per CUDA device, else one.
        cluster: submitit: "slurm", or "local" to try the same path on one machine.
        parameters: submitit: of every job, as `submitit.AutoExecutor.update_parameters` takes them.
        training_parameters: submitit: on top of them for jobs that train, such as several devices.
    """

    kind: str = "local"
    num_workers: int | None = None
    cluster: str = "slurm"
    parameters: dict[str, Any] = field(default_factory=dict)
    training_parameters: dict[str, Any] = field(default_factory=dict)
