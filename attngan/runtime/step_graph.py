"""A whole training step as one CUDA graph: hundreds of small kernels are launched at once, not one by one by Python."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Step = Callable[..., dict[str, Tensor]]
Replay = Callable[[], None]
Recorder = Callable[[Callable[[], dict[str, Tensor]]], tuple[dict[str, Tensor], Replay]]
NUM_WARM_UPS = 3  # steps before one is recorded: libraries choose their kernels, optimizers make their state


class StepGraph:
    """Calls a step; once warmed up, records it and repeats the record on new inputs.

    The same kernels on the same memory in the same order, so the same results. The discriminators' updates and the
    generator's are recorded together, in one graph with its own memory: what one of them frees is not lost to another.
    Whatever the step reads besides its inputs must stay where it is; after a change (optimizers whose state was loaded,
    learning rates) `forget` the record.

    Args:
        step: takes tensors and returns tensors by name, waits for nothing, and does not look at values.
        record: runs a call of the step and returns its outputs and how to repeat it.
        make_room: frees what the last step left behind, which a recorded one has in the graph's own memory.
    """

    def __init__(self, step: Step, record: Recorder, make_room: Callable[[], None] = lambda: None):
        self._step, self._record, self._make_room = step, record, make_room
        self.forget()

    def forget(self) -> None:
        """Warm up and record anew."""
        self._num_calls = 0
        self._inputs: list[Tensor] = []
        self._outputs: dict[str, Tensor] = {}
        self._replay: Replay | None = None

    def __call__(self, *inputs: Tensor, may_record: bool = True) -> dict[str, Tensor]:
        """Take the step; the outputs are valid until the next call.

        Args:
            inputs: of the step.
            may_record: False takes it as it is where it is not recorded yet.
        """
        if self._replay is None:
            self._num_calls += 1
            if self._num_calls <= NUM_WARM_UPS or not may_record:
                return self._step(*inputs)
            self._make_room()
            self._inputs = [each.clone(memory_format=torch.preserve_format) for each in inputs]
            try:
                self._outputs, self._replay = self._record(lambda: self._step(*self._inputs))
            except RuntimeError as error:  # of the device or its libraries; a record that broke off spoils the process
                error.add_note("This step was being recorded; with cuda_graph=off, steps are taken one by one.")
                raise
            # What was recorded has not run yet.
        elif _shapes(inputs) != _shapes(self._inputs):
            return self._step(*inputs)  # a smaller batch, tried for its memory
        for own, new in zip(self._inputs, inputs, strict=True):
            own.copy_(new)
        self._replay()
        return self._outputs


def record_on_cuda(call: Callable[[], dict[str, Tensor]]) -> tuple[dict[str, Tensor], Replay]:
    """Record what a call launches on the current CUDA device as a graph, without running it.

    The random numbers of a replay are those that follow from the seed set before it.
    """
    graph = torch.cuda.CUDAGraph()
    # The thread that makes the next batch may go on: what it does on the device is none of the record's business.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        outputs = call()
    return outputs, graph.replay


def _shapes(tensors: Sequence[Tensor]) -> list[torch.Size]:
    return [each.shape for each in tensors]
