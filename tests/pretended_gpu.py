"""A pretended CUDA device for machines without one: the CPU's numbers, and a GPU's rules.

    with pretended_gpu() as waits:        # torch.cuda.is_available() is True inside
        model.to("cuda")                  # mixed devices raise what CUDA raises
        waits.clear(); step(); waits      # what made the host wait for the device, and where

A tensor on the device wraps a CPU tensor. A dispatch mode sees every operation, forward and
backward. It raises if the arguments lie on different devices, or if a generator is of another
device than its draws. Generators have states of 16 bytes, as CUDA's. The host waits if it
    reads a value (item, bool, tolist, cpu),
    needs the size of a result (boolean masks, nonzero),
    copies from memory that is not pinned, or indexes with a CPU tensor, or
    lets ATen check probabilities (multinomial with one draw).
With `pretended_gpu(graphs=True)` it has CUDA graphs, see pretended_graphs.py.

It knows nothing of memory, streams, launches, or the numerics of a GPU.
"""

import traceback
from collections import Counter
from contextlib import contextmanager, suppress
from functools import partial
from struct import pack, unpack
from unittest.mock import patch

import pretended_graphs
import torch
import torch._dynamo  # a dispatch mode would import it in the middle of the patches
from torch.nn.modules import rnn
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from inspo.utils import cuda_graphs

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
SIZED = {"nonzero", "masked_select", "_unique2", "unique_dim", "repeat_interleave", "bincount"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
COPYING = {"copy_", "_to_copy"}
STRICT = {"gather", "index_select", "cat", "mm", "bmm"}  # take no scalar of another device
waits: Counter[tuple[str, str]] = Counter()  # by kind and line
pinned: set[int] = set()  # addresses of pinned memory
positions: dict[int, list[int]] = {}  # seed and offset of each CUDA generator
real_to, real_empty, real_tensor = torch.Tensor.to, torch.empty, torch.tensor
real_gru, real_apply, RealGenerator = torch.nn.GRU.forward, rnn.RNNBase._apply, torch.Generator


def wait(kind):
    pretended_graphs.wait(kind)
    for frame in reversed(traceback.extract_stack()):
        if "/torch/" not in frame.filename and frame.filename != __file__:
            waits[kind, f"{frame.filename}:{frame.lineno}"] += 1
            return


class GPUTensor(torch.Tensor):
    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: GPU)
    is_cuda, is_cpu = property(lambda self: True), property(lambda self: False)

    @staticmethod
    def __new__(cls, elem):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            elem.shape,
            strides=elem.stride(),
            storage_offset=elem.storage_offset(),
            dtype=elem.dtype,
            device=CPU,
        )
        made.elem = elem
        return made

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return run(operation, args, kwargs or {})

    def numpy(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    def tolist(self):
        wait("read")
        return self.elem.tolist()

    def to(self, *args, **kwargs):
        device, dtype = asked(args, kwargs)
        there = Download.apply(self) if device is not None and device.type == "cpu" else self
        return there if dtype in (None, self.dtype) else torch.ops.aten._to_copy(there, dtype=dtype)

    def cpu(self):
        return self.to(CPU)

    def __deepcopy__(self, memo):
        copy = GPUTensor(self.elem.detach().clone()).requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            copy._is_param = True
        return memo.setdefault(id(self), copy)

    def __iter__(self):
        return iter(self.unbind(0))


class Upload(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor, dtype, non_blocking):
        if not non_blocking or tensor.untyped_storage().data_ptr() not in pinned:
            wait("upload")
        with _disable_current_modes():
            return GPUTensor(real_to(tensor.detach(), dtype or tensor.dtype, copy=True))

    @staticmethod
    def backward(ctx, gradient):
        return gradient.cpu(), None, None


class Download(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor):
        wait("read")
        return tensor.elem.detach().clone()

    @staticmethod
    def backward(ctx, gradient):
        return GPUTensor(gradient)


def asked(args, kwargs):
    """The device and the type that `Tensor.to` is asked for."""
    found = [kwargs.get("device"), kwargs.get("dtype")]
    for value in args:
        if isinstance(value, torch.Tensor):
            found = [value.device, value.dtype]
        elif isinstance(value, torch.dtype):
            found[1] = value
        elif isinstance(value, torch.device | str):
            found[0] = value
    return found[0] and torch.device(found[0]), found[1]


def to(self, *args, **kwargs):
    """`Tensor.to` of a CPU tensor."""
    device, dtype = asked(args, kwargs)
    if device is None or device.type != "cuda":
        return real_to(self, *args, **kwargs)
    return Upload.apply(self, dtype, kwargs.get("non_blocking", False))


def empty(*args, pin_memory=False, **kwargs):
    made = real_empty(*args, **kwargs)
    if pin_memory:
        pinned.add(made.untyped_storage().data_ptr())
    return made


def tensor(data, *, device=None, requires_grad=False, **kwargs):
    """`torch.tensor` makes it on the CPU, then copies it."""
    made = real_tensor(data, **kwargs)
    if device is not None and torch.device(device).type == "cuda":
        made = to(made, GPU)
    return made.requires_grad_(requires_grad)


def one_hot(index, num_classes):
    """CUDA's is made of these two. The CPU's reads the largest index."""
    zeros = index.new_zeros(*index.shape, num_classes)
    return zeros.scatter_(-1, index.unsqueeze(-1), 1)


def run(operation, args, kwargs):
    name = operation._schema.name.partition("::")[2]
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    there = [one for one in tensors if isinstance(one, GPUTensor)]
    here = [one for one in tensors if not isinstance(one, GPUTensor)]
    device = kwargs.get("device") and torch.device(kwargs["device"])
    if there and (name.startswith("new_") or name.endswith("_like")):
        device = GPU  # C++ passes the wrapper's own, which is the CPU
    on_gpu = device.type == "cuda" if device else bool(there)
    if there and here and name not in COPYING:
        check_mixed(operation, name, args, here)
    check_generator(name, args, kwargs, on_gpu)
    if there or on_gpu:
        count_waits(name, args, kwargs, on_gpu)
    repeat = partial(run, operation, args, kwargs)
    if device:
        kwargs = {**kwargs, "device": CPU}
    if name == "_to_copy":
        kwargs.pop("non_blocking", None)
    wrappers = {id(one.elem): one for one in there}
    with _disable_current_modes():
        plain = tree_map(lambda leaf: getattr(leaf, "elem", leaf), (args, kwargs))
        result = operation(*plain[0], **plain[1])
    if not on_gpu:
        return result

    def wrap(value):
        if not isinstance(value, torch.Tensor) or any(value is one for one in here):
            return value
        return wrappers[id(value)] if id(value) in wrappers else GPUTensor(value)

    result = tree_map(wrap, result)
    if pretended_graphs.recorded is not None:
        pretended_graphs.recorded.append((repeat, result))
    return result


def check_mixed(operation, name, args, here):
    mixed = here if name in STRICT else [one for one in here if one.dim()]
    if name in INDEXING and isinstance(args[0], GPUTensor):
        indices = [one for one in args[1] if isinstance(one, torch.Tensor)]
        for index in indices:
            if not isinstance(index, GPUTensor):
                wait("upload of an index")
        mixed = [one for one in mixed if not any(one is index for index in indices)]
    if mixed or (operation._schema.is_mutable and any(one is args[0] for one in here)):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"cuda:0 and cpu! ({name})"
        )


def check_generator(name, args, kwargs, on_gpu):
    generators = [one for one in (*args, *kwargs.values()) if isinstance(one, torch._C.Generator)]
    for generator in generators:
        is_cuda = generator._cdata in positions
        if is_cuda != on_gpu:
            there, given = ("cuda", "cpu") if on_gpu else ("cpu", "cuda")
            raise RuntimeError(f"Expected a '{there}' generator but found '{given}' ({name})")
        if is_cuda:
            position = positions[generator._cdata]
            if any(position is one for one in pretended_graphs.stuck):
                raise RuntimeError("Offset increment outside graph capture")
            RealGenerator.manual_seed(generator, hash(tuple(position)) & ((1 << 63) - 1))
            position[1] += 4


def count_waits(name, args, kwargs, on_gpu):
    source = args[1] if name == "copy_" else args[0] if args else None
    if name in ("_local_scalar_dense", "equal"):
        wait("read")
    elif name in SIZED or (name in INDEXING and torch.bool in types_of(args[1])):
        wait("size")
    elif name == "multinomial" and (args[1] == 1 or not (*args[2:], kwargs.get("replacement"))[0]):
        wait("check")
    elif name in COPYING:
        from_gpu = isinstance(source, GPUTensor)
        to_gpu = isinstance(args[0], GPUTensor) if name == "copy_" else on_gpu
        if from_gpu != to_gpu:
            wait("read" if from_gpu else "upload")


def types_of(indices):
    return [index.dtype for index in indices if index is not None]


class Generator(RealGenerator):
    """`torch.Generator`, of either device."""

    def __new__(cls, device="cpu"):
        made = RealGenerator.__new__(cls, "cpu")
        positions.pop(made._cdata, None)  # of another one that was at this address
        if torch.device(device).type == "cuda":
            positions[made._cdata] = [0, 0]
        return made

    def __init__(self, device="cpu"):
        pass

    @property
    def device(self):
        return GPU if self._cdata in positions else CPU

    def get_state(self):
        if self.device == CPU:
            return super().get_state()
        return torch.frombuffer(bytearray(pack("<2q", *positions[self._cdata])), dtype=torch.uint8)

    def set_state(self, state):
        if self.device == CPU:
            return super().set_state(state)
        if state.numel() != 16:
            raise RuntimeError("RNG state is wrong size")
        positions[self._cdata][:] = unpack("<2q", state.numpy().tobytes())
        return self

    @property
    def position(self):
        return positions[self._cdata]

    def clone_state(self):
        made = Generator(self.device)
        positions[made._cdata][:] = positions[self._cdata]
        return made

    def graphsafe_set_state(self, other):
        positions[self._cdata] = positions[other._cdata]
        return self

    def manual_seed(self, seed):
        if self.device == CPU:
            return super().manual_seed(seed)
        positions[self._cdata][:] = [seed, 0]
        return self


class GRU(torch.autograd.Function):
    """cuDNN's: one operation each way."""

    @staticmethod
    def forward(ctx, inputs, hidden, *weights):
        assert all(isinstance(one, GPUTensor) for one in (inputs, hidden, *weights))

        def compute():
            leaves = [one.elem.detach().requires_grad_() for one in (inputs, hidden, *weights)]
            with torch.enable_grad(), _disable_current_modes():
                options = (True, 1, 0.0, False, False, True)
                ctx.graph = leaves, *torch._VF.gru(leaves[0], leaves[1], leaves[2:], *options)
            return tuple(GPUTensor(one.detach()) for one in ctx.graph[1:])

        return pretended_graphs.repeatable(compute)

    @staticmethod
    def backward(ctx, *gradients):

        def compute():
            leaves, *outputs = ctx.graph
            plain = [getattr(gradient, "elem", gradient) for gradient in gradients]
            with torch.enable_grad(), _disable_current_modes():
                found = torch.autograd.grad(outputs, leaves, plain, retain_graph=True)
            return tuple(GPUTensor(gradient) for gradient in found)

        return pretended_graphs.repeatable(compute)


def gru_forward(self, inputs, hidden=None):
    if not isinstance(inputs, GPUTensor):
        return real_gru(self, inputs, hidden)
    weights = self._flat_weights
    assert self.one_chunk == [id(weight) for weight in weights], "cuDNN copies these weights"
    return GRU.apply(inputs, hidden, *weights)


def rnn_apply(self, change, recurse=True):
    made = real_apply(self, change, recurse)
    self.one_chunk = [id(weight) for weight in self._flat_weights]
    return made


def by_device(groups):
    """Groups of parameters for optimisers, whose wrappers look like the CPU's to C++."""
    return {
        (GPU if any(isinstance(one, GPUTensor) for one in group[0][0]) else device, dtype): group
        for (device, dtype), group in groups.items()
    }


def plain(content):
    """A copy in which the device's tensors are the CPU's, as `torch.save` needs."""
    return tree_map(lambda leaf: getattr(leaf, "elem", leaf), content)


@contextmanager
def pretended_gpu(free=80 << 30, graphs=False):
    """Inside, a CUDA device is there, with so many free bytes. Yields `waits`."""
    real_save, group = torch.save, torch._C._group_tensors_by_device_and_dtype
    compatible = torch._has_compatible_shallow_copy_type
    changes = {
        torch: {
            "Generator": Generator,
            "empty": empty,
            "tensor": tensor,
            "save": lambda content, *args, **kwargs: real_save(plain(content), *args, **kwargs),
            "_has_compatible_shallow_copy_type": lambda *pair: (
                len({isinstance(one, GPUTensor) for one in pair}) == 1 and compatible(*pair)
            ),
        },
        torch.Tensor: {"to": to},
        torch.nn.GRU: {"forward": gru_forward},
        torch.nn.functional: {"one_hot": one_hot},
        torch.backends.cudnn: {"is_acceptable": lambda _: False},  # the real one warns
        rnn.RNNBase: {"_apply": rnn_apply},
        torch._C: {"_group_tensors_by_device_and_dtype": lambda *args: by_device(group(*args))},
        torch.version: {"cuda": None},  # also where PyTorch's CUDA build is installed
        cuda_graphs: {"available": lambda device: graphs and device.type == "cuda"},
        torch.cuda: {
            **pretended_graphs.PATCHES,
            "is_available": lambda: True,
            "_lazy_init": lambda: None,
            "is_initialized": lambda: True,
            "current_device": lambda: 0,
            "device_count": lambda: 1,
            "get_device_name": lambda *_: "pretended",
            "mem_get_info": lambda *_: (free, free),
            "manual_seed_all": lambda _: None,
            "get_rng_state": lambda *_: torch.zeros(16, dtype=torch.uint8),
            "set_rng_state": lambda *_: None,
            "_is_in_bad_fork": lambda: False,
        },
    }
    if hasattr(torch, "accelerator"):  # in PyTorch's CUDA build, optimisers would ask the driver
        changes[torch.accelerator] = {"current_accelerator": lambda *_, **__: None}
    patches = [patch.multiple(owner, **values) for owner, values in changes.items()]
    types = _foreach_utils._foreach_supported_types
    for one in patches:
        one.start()
    types.append(GPUTensor)
    try:
        with Mode():
            waits.clear()
            pretended_graphs.reset(GPU)
            yield waits
    finally:
        types.remove(GPUTensor)
        for one in reversed(patches):
            with suppress(RuntimeError):
                one.stop()


class Mode(TorchDispatchMode):
    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return run(operation, args, kwargs or {})
