"""Arithmetic and memory layout that a device is fast with: half precision, channels last; what fits in its memory."""

import contextlib
import ctypes
import platform
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch
from torch import nn

from attngan.config.settings import Config
from attngan.errors import InputError, TransientError, shown
from attngan.runtime import distributed, machine
from attngan.runtime.step_graph import Recorder, record_on_cuda

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
# What cuDNN says where no kernel's workspace fits, or where it has no kernel at all.
NO_KERNEL = ("unable to find an engine to execute this computation", "Unable to find a valid cuDNN algorithm")
Result = TypeVar("Result")
DEVICES = re.compile("(cpu|cuda)(:[0-9]+)?")  # of torch's, those that attngan runs on
# Of a CUDA device that multiplies matrices of bfloat16, and of float16 (V100, T4), in hardware.
MIN_CAPABILITY, MIN_CAPABILITY_FLOAT16 = (8, 0), (7, 0)


def set_up_device(config: Config) -> torch.device:
    """Set up CPU and CUDA (threads of `config.num_threads`, memory, kernels), and return the device of `config.device`.

    A CUDA device comes with its number, and becomes the current one, which graphs are recorded on: "cuda" alone would
    be another device in a thread that takes none.

    Raises:
        InputError: it is not there, or not a kind that attngan runs on.
    """
    keep_freed_memory()
    # Shapes stay the same from step to step: the fastest kernel is worth a search.
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32: what computes in less says so
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    elif torch.get_num_threads() > machine.num_cores():  # torch counts the node's
        torch.set_num_threads(machine.num_cores())
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not DEVICES.fullmatch(name):
        raise InputError(f"device: expected auto, cpu, cuda or cuda:N, found {shown(name)!r}.")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        if _is_out_of_memory(error):
            raise _no_memory(device) from None
        reason = str(error).splitlines()[0]
        raise TransientError(  # the next node may have one
            f"device: {config.device!r} cannot be used here ({reason}); set device to auto or cpu."
        ) from None
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        torch.cuda.set_device(device)
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= MIN_CAPABILITY
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def has_float16(device: torch.device) -> bool:
    """Return whether a device multiplies float16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= MIN_CAPABILITY_FLOAT16
    return torch.ops.mkldnn._is_mkldnn_fp16_supported()


def name_of(device: torch.device) -> str:
    """Return what a device calls itself, such as "NVIDIA L4"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else machine.processor()


def choose_precision(setting: str, device: torch.device) -> torch.dtype:
    """Return what networks compute in: `auto` takes bfloat16 where the device has it, or float16 on such a GPU.

    Raises:
        InputError: the device lacks what is asked for.
    """
    if setting == "auto":
        if has_bfloat16(device):
            return torch.bfloat16
        return torch.float16 if device.type == "cuda" and has_float16(device) else torch.float32
    has = {"float32": lambda _: True, "bfloat16": has_bfloat16, "float16": has_float16}[setting]
    if not has(device):
        raise InputError(f"precision: {device} has no instructions for {setting}; set precision to auto or float32.")
    return getattr(torch, setting)


def autocast(device: torch.device, precision: torch.dtype) -> contextlib.AbstractContextManager[None]:
    """Let networks compute in `precision` inside the block; weights, gradients and statistics stay float32."""
    if precision == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, precision)


def channels_last_(networks: Iterable[nn.Module]) -> None:
    """Lay out the weights of networks so that convolutions find the channels of a pixel side by side."""
    for network in networks:
        network.to(memory_format=torch.channels_last)


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next tensor, where it can be told so (glibc).

    By default it hands every large tensor back to the system, and the next one is made of pages that must be cleared
    and mapped anew: up to half of the time of a training step on a CPU.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            mallopt(parameter, 2**31 - 1)


def wait(device: torch.device) -> None:
    """Wait until a device has done what it was given, as a clock must that is read on the host."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def choose_recorder(setting: str, device: torch.device) -> Recorder | None:
    """Return how steps are recorded as a graph, or None where they are not: `auto` records on exactly one CUDA device.

    Raises:
        InputError: they shall be recorded, and cannot.
    """
    count = distributed.world_size()
    if setting == "on" and (device.type != "cuda" or count > 1):
        found = f"{count} processes" if count > 1 else str(device)
        raise InputError(
            f"cuda_graph: a step is recorded on one CUDA device alone, found {found}; set cuda_graph to auto."
        )
    return record_on_cuda if setting != "off" and device.type == "cuda" and count == 1 else None


@contextlib.contextmanager
def beginning(device: torch.device) -> Iterator[None]:
    """Say, where the block finds too little of a CUDA device's memory to begin with, how much is free.

    Raises:
        TransientError: another process may have taken it, and may end.
    """
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if device.type != "cuda" or not _is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)
        raise _no_memory(device) from None


def _no_memory(device: torch.device) -> TransientError:
    """Return the error for a CUDA device without room for even the networks; what they took is free again."""
    free = "none of its memory is free"
    with contextlib.suppress(RuntimeError):  # not even enough to ask
        torch.cuda.empty_cache()
        there, total = torch.cuda.mem_get_info(device)
        free = f"{there / 2**30:.1f} of {total / 2**30:.1f} GiB are free"
    return TransientError(
        f"device: {device} has too little memory to begin with: {free}; wait for the processes that hold it "
        "(nvidia-smi names them), or set device to another one."
    )


def _held_by_others(device: torch.device) -> str:
    """Return in parentheses how much of a CUDA device's memory other processes hold, if that is a tenth or more."""
    if device.type != "cuda":
        return ""
    free, total = torch.cuda.mem_get_info(device)
    held = total - free - torch.cuda.memory_reserved(device)
    return f" (other processes hold {held / 2**30:.1f} of its {total / 2**30:.1f} GiB)" if held > 0.1 * total else ""


@contextlib.contextmanager
def fitting(setting: str, batch_size: int, device: torch.device, step: Callable[[int], object]) -> Iterator[None]:
    """Say, where the block runs out of memory, which batch would have fitted.

    Args:
        setting: name of the batch size.
        batch_size: of the block.
        device: whose memory.
        step: does what the block does with fewer pictures, to try; never called where several processes train.

    Raises:
        InputError: a batch of this size does not fit.
    """
    try:
        yield
        return
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the step's tensors
        failure = error
    fits = batch_size // 2 if distributed.world_size() == 1 else 0
    while fits >= 2 and not _does_fit(step, fits):
        fits //= 2
    if fits < 2 and any(text in str(failure) for text in NO_KERNEL):
        raise failure  # for want of something else, as far as anyone can tell
    would = f"one of {fits} does" if fits >= 2 else "set a smaller one, or a lower resolution"
    where = f"the memory of {device}{_held_by_others(device)}"
    raise InputError(f"{setting}: a batch of {batch_size} pictures does not fit in {where}; {would}.")


def with_room(work: Callable[[], Result], make_room: Callable[[], None], device: torch.device, what: str) -> Result:
    """Do some work beside a training; where the memory runs out, free what the training can do without, and try again.

    Args:
        work: changes nothing where it fails.
        make_room: frees that.
        device: whose memory.
        what: the work makes, for people.

    Raises:
        InputError: there is not enough memory for it even then.
    """
    for is_last in (False, True):
        try:
            return work()
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)
        if not is_last:
            make_room()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    raise InputError(
        f"training.batch_size: {what} do not fit in the memory of {device} beside the training; set a smaller batch."
    )


def _does_fit(step: Callable[[int], object], size: int) -> bool:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        step(size)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        return False
    return True


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in (*OUT_OF_MEMORY, *NO_KERNEL))
