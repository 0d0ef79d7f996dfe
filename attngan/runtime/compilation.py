"""What a training step computes, as it is or compiled: whole functions, for each network one, of fixed shapes.

A function is compiled without a gap or not at all, and has code of its own for each network: torch counts the versions
of a code object and gives up at the eighth, and the modules of all networks share theirs.
"""

import datetime
import math
import os
import stat
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from attngan.errors import InputError
from attngan.runtime import acceleration
from attngan.runtime.console import say

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
# On an NVIDIA H200, torch 2.11, the paper's networks at 256 pixels, batch 64 (docs/performance.md): what the first
# steps took where nothing was in the compiler's cache, and which share of a recorded step's 73.8 ms was saved (49.3).
COMPILING_SECONDS = 166.0
SAVED_SHARE = 1 / 3
NUM_TIMED = 2  # steps, or a whole period of them if that is more
CACHE = "TORCHINDUCTOR_CACHE_DIR"  # torch's own name for where its compiler keeps what it made


class Compilation:
    """Calls the functions of a step; compiled ones from when it is worth it.

    Args:
        setting: "auto", "on" or "off".
        device: where the step runs.
        is_recorded: the step becomes a CUDA graph; "auto" compiles no other, which Python's launches hold up.
        name: of the training, for messages.
    """

    def __init__(self, setting: str, device: torch.device, *, is_recorded: bool, name: str):
        self.setting, self.device, self.is_recorded, self.name = setting, device, is_recorded, name
        self.is_on = False
        self.is_decided = setting != "on" and not (device.type == "cuda" and (is_recorded or setting == "auto"))
        self._num_steps, self._began = 0, 0.0
        self._cache = Path(default_cache_dir())
        self._compiled: dict[tuple[object, int], Callable[..., Any]] = {}

    def __call__(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Return what a function makes of its arguments, the first of which may be a network.

        Args:
            function: one that stands in a module: it is known by itself.
            args: of the function, at least one.
            kwargs: the same.
        """
        if not self.is_on:
            return function(*args, **kwargs)
        key = (function, id(args[0]) if isinstance(args[0], nn.Module) else 0)
        if key not in self._compiled:
            self._compiled[key] = _compiled(function, f"{function.__name__}_{len(self._compiled)}")
        return self._compiled[key](*args, **kwargs)

    def keep_in(self, folder: Path) -> None:
        """Let the compiler keep what it makes in this folder, for whoever goes on with the run."""
        self._cache = folder

    def stop(self) -> None:
        """Compile nothing (more): shapes will be others."""
        self.is_on, self.is_decided = False, True

    def begins(self, num_left: int, *, period: int) -> bool:
        """Decide before a step, once there is a pace, whether the steps are compiled; return whether from this one on.

        Args:
            num_left: steps of the schedule.
            period: steps until all kinds of them have been taken and they come round again.

        Raises:
            InputError: they shall be, and what is compiled cannot be kept where it should.
        """
        if self.is_decided:
            return False
        is_wanted, why = self.setting == "on", f"compile={self.setting}"
        if self.setting == "auto" and not self.is_recorded:
            why = "compiling pays where they are recorded alone"
        elif self.setting == "auto":
            left = self._seconds_a_step(period) * num_left
            if not left:
                return False
            is_wanted = SAVED_SHARE * left > COMPILING_SECONDS
            why = f"as they are, the {num_left:,} left take about {datetime.timedelta(seconds=round(left))}"
        self.is_decided, self.is_on = True, is_wanted and self._is_possible()
        recorded = "recorded as a CUDA graph" if self.is_recorded else "not recorded"
        compiled = "compiled, which takes minutes, once" if self.is_on else "not compiled"
        say(f"{self.name}: steps are {recorded} and {compiled} ({why})")
        return self.is_on

    def _seconds_a_step(self, period: int) -> float:
        """Return the pace of whole periods after the first one, for which kernels are chosen; 0 until it is known."""
        timed = period * math.ceil(NUM_TIMED / period)
        done, self._num_steps = self._num_steps, self._num_steps + 1
        if done not in (period, period + timed):
            return 0.0
        acceleration.wait(self.device)
        before, self._began = self._began, time.monotonic()
        return (self._began - before) / timed if done > period else 0.0

    def _is_possible(self) -> bool:
        """Return whether the compiler works here, with a place for what it makes, or say that it does not."""
        if os.environ.get(CACHE, default_cache_dir()) == default_cache_dir():  # which torch may have set; not a person
            try:
                _take(self._cache)
            except InputError as error:
                if self.setting == "on":
                    raise
                say(str(error))
                return False
            os.environ[CACHE] = str(self._cache)
        try:
            torch.compile(lambda numbers: numbers.sin() + 1, fullgraph=True)(torch.ones(8, device=self.device))
        except Exception as error:  # whatever the compiler, its compiler or the platform comes up with
            say(f"compiling does not work here, so steps run as they are: {_in_short(error)}")
            return False
        return True


def _take(folder: Path) -> None:
    """Make a folder, or take one that is there, in which nobody else can write: what lies in it will be run."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(None, "others can write in it")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"{folder}: compiled code cannot be kept here ({reason}); mend that, set {CACHE}, or set compile to off."
        ) from None


def _compiled(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return a function compiled; where the compiler fails, one line says so, and the plain one takes its place."""
    code = function.__code__.replace(co_name=name)
    own = types.FunctionType(code, function.__globals__, name, function.__defaults__, function.__closure__)
    own.__kwdefaults__ = function.__kwdefaults__
    chosen = torch.compile(own, fullgraph=True, dynamic=False)

    def run(*args: Any, **kwargs: Any) -> Any:
        nonlocal chosen
        try:
            return chosen(*args, **kwargs)
        except TorchDynamoException as error:
            say(f"{function.__name__} cannot be compiled here and runs as it is: {_in_short(error)}")
            chosen = function
            return function(*args, **kwargs)

    return run


def _in_short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
