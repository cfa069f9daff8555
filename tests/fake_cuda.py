"""A CUDA device without one: shapes, types and devices are computed by torch's FakeTensorMode, values are not.

Tensors on the processor stay real, so data sets, files and control flow work. What leaves the device comes back as
ones. Operations whose tensors lie on different devices fail as they do on a GPU, and every place where the processor
would wait for the device is counted.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from unittest import mock

import lightning
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.plugins import MixedPrecision, Precision
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from eqvae.efficientnet import efficientnet_lite0
from eqvae.evaluation import features
from eqvae.losses.perceptual import create_perceptual

aten = torch.ops.aten
CUDA = torch.device("cuda", 0)
ROOT = Path(__file__).parents[1]
INDEXING = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index)
SIZED_BY_VALUES = (aten.nonzero, aten.masked_select, aten.bincount, aten._unique2)
PRECISIONS = ("32-true", "bf16-mixed")


class FakeCuda(TorchDispatchMode):
    """Computes what concerns the device without values, and everything else for real.

    Attributes:
        waits: what made the processor wait for the device, each with the line that asked for it: values that are read,
            copies that block, and results whose size depends on values (`nonzero`, boolean indices).
    """

    def __init__(self):
        super().__init__()
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.waits: list[str] = []

    def __enter__(self):
        self._fake.__enter__()
        return super().__enter__()

    def __exit__(self, *about):
        super().__exit__(*about)
        self._fake.__exit__(*about)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        packet, given = function._overloadpacket, tree_leaves((args, kwargs))
        device = next((value for value in given if isinstance(value, torch.device)), None)
        to_device = device is not None and device.type == "cuda"
        if not to_device and not any(map(on_device, given)):
            with unset_fake_temporarily():
                return function(*args, **kwargs)
        if _is_composite(function):
            with self:
                return function.decompose(*args, **kwargs)
        if packet is aten._local_scalar_dense:
            self._wait("a value is read")
            return (1.0 if args[0].is_floating_point() else 1) if args[0].dtype != torch.bool else True
        if packet is aten._to_copy and device is not None:
            return self._moved(args[0], to_device, function, kwargs)
        if packet is aten.copy_ and on_device(args[0]) != on_device(args[1]):
            self._note_copy(args[1], args[2:] == (True,) or kwargs.get("non_blocking", False))
            return args[0]
        if packet in INDEXING:
            args = self._with_indices(packet, args)
        if packet in SIZED_BY_VALUES:
            return self._sized_by_values(packet, args, kwargs)
        return function(*args, **kwargs)

    def _wait(self, what: str) -> None:
        self.waits.append(f"{what} at {_line_of_project()}")

    def _note_copy(self, source: Tensor, non_blocking: bool) -> None:
        if not non_blocking or on_device(source):  # what leaves the device goes to memory that is not pinned
            self._wait(f"a copy {'from' if on_device(source) else 'to'} the device")

    def _moved(self, source: Tensor, to_device: bool, function, kwargs):
        if to_device and on_device(source):
            return function(source, **kwargs)
        self._note_copy(source, kwargs.get("non_blocking", False))
        if to_device:
            return function(source, **kwargs)
        with unset_fake_temporarily():
            return torch.ones(source.shape, dtype=kwargs.get("dtype") or source.dtype)

    def _with_indices(self, packet, args: tuple) -> tuple:
        """Refuses indices on the wrong device, which FakeTensor overlooks; boolean ones become places."""
        source, indices, *rest = args
        places = []
        for index in indices:
            if index is not None and on_device(index) and not on_device(source):
                raise RuntimeError(f"indices on the device for a tensor on the processor at {_line_of_project()}")
            if index is not None and not on_device(index):
                self._wait("a copy of indices to the device")
                index = torch.zeros(index.shape, dtype=index.dtype, device=CUDA)
            if index is not None and index.dtype in (torch.bool, torch.uint8):
                self._wait("a boolean index")
                places += [torch.zeros(index.numel(), dtype=torch.long, device=CUDA) for _ in index.shape]
            else:
                places.append(index)
        return source, places, *rest

    def _sized_by_values(self, packet, args: tuple, kwargs: dict) -> Tensor | tuple[Tensor, ...]:
        """As if every entry counted."""
        self._wait(f"{packet.__name__}")
        source = args[0]
        if packet is aten.nonzero:
            return torch.zeros(source.numel(), source.ndim, dtype=torch.long, device=CUDA)
        if packet is aten._unique2:
            places = torch.zeros(source.shape, dtype=torch.long, device=CUDA)
            return torch.zeros(source.numel(), dtype=source.dtype, device=CUDA), places, places.flatten()
        if packet is aten.masked_select:
            return torch.zeros(source.numel(), dtype=source.dtype, device=CUDA)
        return torch.zeros(args[2] if len(args) > 2 else kwargs.get("minlength", 0), dtype=torch.long, device=CUDA)


def on_device(value: object) -> bool:
    """Whether a value is a tensor on the device."""
    return isinstance(value, Tensor) and value.device.type == "cuda"


@cache
def _is_composite(function) -> bool:
    """Made of other operations: those of inference tensors come here whole."""
    if function.namespace != "aten":
        return False
    return torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), "CompositeImplicitAutograd")


def _line_of_project() -> str:
    """The innermost line of this project, tests only where nothing else is."""
    frame, found = sys._getframe(1), "elsewhere"
    while frame is not None:
        file = _file_of_project(frame.f_code.co_filename)
        if file is not None:
            place = f"{file}:{frame.f_lineno}"
            if not place.startswith("tests"):
                return place
            found = place if found == "elsewhere" else found
        frame = frame.f_back
    return found


@cache
def _file_of_project(name: str) -> str | None:
    path = Path(name)
    own = path.is_relative_to(ROOT) and path != Path(__file__) and ".venv" not in path.parts
    return str(path.relative_to(ROOT)) if own else None


def _apply(module: nn.Module, function, recurse: bool = True) -> nn.Module:
    """`nn.Module._apply` that puts new parameters in place of the old: FakeTensors cannot be swapped."""
    moved: dict[int, nn.Parameter] = {}
    for each in module.modules():
        for name, value in each._parameters.items():
            if value is not None:
                if id(value) not in moved:
                    with torch.no_grad():
                        moved[id(value)] = nn.Parameter(function(value), value.requires_grad)
                each._parameters[name] = moved[id(value)]
        for name, value in each._buffers.items():
            if value is not None:
                each._buffers[name] = function(value)
    return module


def _backward(loss: Tensor, *args, **kwargs) -> None:
    """Gradients without values for every leaf that the loss reaches; the engine has no thread for a fake device."""
    assert on_device(loss), "the loss does not lie on the device"
    assert loss.ndim == 0, "backward needs a scalar"
    for leaf in _leaves(loss):
        assert on_device(leaf), "a parameter does not lie on the device"
        leaf.grad = torch.zeros_like(leaf, requires_grad=False)


def _grad(outputs, inputs, grad_outputs=None, **kwargs) -> tuple[Tensor, ...]:
    given = tree_leaves((outputs, inputs, grad_outputs))
    assert all(map(on_device, [value for value in given if value is not None])), "a gradient mixes devices"
    return tuple(torch.zeros_like(value, requires_grad=False) for value in tree_leaves(inputs))


def _really(function):
    """A function that would leave values out as soon as it sees a fake device."""

    def called(*args, **kwargs):
        with _disable_current_modes():
            return function(*args, **kwargs)

    return called


def _leaves(loss: Tensor) -> Iterator[Tensor]:
    seen, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        waiting += [parent for parent, _ in node.next_functions]


@contextmanager
def fake_cuda() -> Iterator[FakeCuda]:
    """A fake device for what runs inside; autocast believes in it, and backward passes only look at devices."""
    random_state = torch.zeros(16, dtype=torch.uint8)
    patches = {
        "torch.cuda.amp.common.amp_definitely_not_available": lambda: False,
        "torch.cuda.is_available": cache(torch.cuda.is_available),  # asked for with every tensor, by opening a library
        "torch.cuda.is_bf16_supported": lambda *_: True,
        "torch.cuda.get_rng_state": lambda *_: random_state,
        "torch.cuda.set_rng_state": lambda *_: None,
        "torch.cuda.reset_peak_memory_stats": lambda *_: None,
        "torch.cuda.max_memory_allocated": lambda *_: 0,
        "torch.load": _really(torch.load),
        "torch.cuda.default_generators": (torch.Generator(),),
        "torch.nn.Module._apply": _apply,
        "torch.Tensor.backward": _backward,
        "torch.autograd.grad": _grad,
    }
    with ExitStack() as stack:
        for name, value in patches.items():
            stack.enter_context(mock.patch(name, value))
        stack.callback(_forget_networks)
        _forget_networks()
        yield stack.enter_context(FakeCuda())


def _forget_networks() -> None:
    """Networks that a process opens once: they would stay on the fake device."""
    for kept in (efficientnet_lite0, create_perceptual, features._extractor):
        kept.cache_clear()


class FakeAccelerator(CPUAccelerator):
    """Lets Lightning train on the fake device."""

    def setup_device(self, device: torch.device) -> None:
        assert device.type == "cuda"


def fake_trainer(folder: Path, precision: str = "32-true", **options) -> lightning.Trainer:
    """Lightning's trainer on the fake device, one process, without files of its own."""
    plugin = Precision() if precision == "32-true" else MixedPrecision(precision, "cuda")
    quiet = dict.fromkeys(("enable_checkpointing", "enable_progress_bar", "enable_model_summary", "logger"), False)
    return lightning.Trainer(
        strategy=SingleDeviceStrategy(CUDA, FakeAccelerator(), precision_plugin=plugin),
        default_root_dir=folder,
        use_distributed_sampler=False,
        max_epochs=1,
        num_sanity_val_steps=0,
        **quiet | options,
    )
