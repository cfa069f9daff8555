"""Weights, gradients and optimizer state split over the processes: fully sharded data parallelism."""

import warnings
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel, OptimStateKeyType, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

GATHER = StateDictOptions(full_state_dict=True, cpu_offload=True)
SPLIT = StateDictOptions(full_state_dict=True)


class FullyShardedStrategy(ModelParallelStrategy):
    """Each process keeps its part of every weight and gathers a block's weights when it computes the block.

    FSDP2 (torch's `fully_shard`) through Lightning's strategy, for networks that do not fit a device with their
    averages and optimizer state. It trains what one process would with the same global batch. Checkpoints are those of
    one process, too: a single file, which any number of devices continues, sharded or not.

    The module's `configure_model` splits its networks with `shard`.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def setup(self, trainer: Any) -> None:
        if not is_overridden("configure_model", self.lightning_module):
            name = type(self.lightning_module).__name__
            raise ValueError(f"trainer.strategy fsdp2: {name} cannot be sharded; use ddp, or a single device")
        # SiT returns a slice of its prediction; no objective changes it in place.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        super().setup(trainer)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read the file, verified, in every process; each takes its parts of weights and optimizer state."""
        checkpoint = self.checkpoint_io.load_checkpoint(checkpoint_path)
        assert self.model is not None, "a strategy has it before it loads"
        load_full_state(self.model, checkpoint["state_dict"])
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=False):
            named = FullyShardedDataParallel.rekey_optim_state_dict(state, OptimStateKeyType.PARAM_NAME, self.model)
            set_optimizer_state_dict(self.model, optimizer, named, options=SPLIT)
        return checkpoint


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Split the weights of a network over the processes of `mesh`, block by block where it has `blocks`."""
    for block in getattr(network, "blocks", ()):
        fully_shard(block, mesh=mesh)
    # Validation has no backward pass that would split the outermost weights again, and averages swap right after it.
    fully_shard(network, mesh=mesh, reshard_after_forward=True)


def is_sharded(module: nn.Module) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def plain_class(module: nn.Module) -> type[nn.Module]:
    """The class of a module as it was before `shard`, which puts its own in front."""
    return type(module).__mro__[2] if isinstance(module, FSDPModule) else type(module)


def local_part(tensor: Tensor) -> Tensor:
    """This process's part of a sharded tensor; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full_state(module: nn.Module) -> dict[str, Any]:
    """Whole weights of a module. Of a sharded one on the CPU and in the first process only; all have to ask."""
    return get_model_state_dict(module, options=GATHER) if is_sharded(module) else module.state_dict()


def load_full_state(module: nn.Module, state: dict[str, Any]) -> None:
    """Load whole weights; of a sharded module every process takes its part."""
    if is_sharded(module):
        set_model_state_dict(module, state, options=SPLIT)
    else:
        module.load_state_dict(state)


def full_tensor(tensor: Tensor) -> Tensor:
    """The whole tensor; all processes have to ask for a sharded one."""
    return tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor


def copy_full_tensor(target: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into one that may be sharded, without communication."""
    if isinstance(target, DTensor):
        value = value.to(target.device)
        value = distribute_tensor(value, target.device_mesh, target.placements, src_data_rank=None)
    target.copy_(value)
