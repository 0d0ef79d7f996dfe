"""What a lone process's step would send to others, and when."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attngan.runtime import acceleration, distributed
from attngan.runtime.gradient_average import GradientAverage
from benchmarks.scaling.model import BACKWARD_END, BUCKET, SCORE_GRADIENTS, SCORES, Message, sums_sent


class Timeline:
    """Notes what the steps of a lone process would send, and when.

    Marks are read on the device: a CUDA device passes them when it gets there, the host long before.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._notes: list[tuple[Any, int, str]] = []

    def step(self, work: Callable[[], object]) -> tuple[list[Message], float]:
        """Do a step, and return its messages and its seconds."""
        self._notes = []
        start = self._mark()
        work()
        end = self._mark()
        acceleration.wait(self.device)
        notes = [Message(self._between(start, mark), *what) for mark, *what in self._notes]
        return notes, self._between(start, end)

    def note(self, num_bytes: int, kind: str) -> None:
        """Note a message of this moment."""
        self._notes.append((self._mark(), num_bytes, kind))

    def watch_batch_norms(self, network: nn.Module) -> None:
        """Note what the batch norms of a network would send, if they were synchronized."""
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.register_forward_hook(self._note_sums)

    def watch_scores(self) -> None:
        """Note the scores that are gathered, in float32, and their gradients."""
        distributed.gather = self.gather

    def gather(self, scores: Tensor) -> Tensor:
        """Stand in for `distributed.gather`."""
        self.note(4 * scores.numel(), SCORES)
        scores.register_hook(lambda gradient: self.note(4 * gradient.numel(), SCORE_GRADIENTS))
        return scores

    def watch_gradients(self, average: GradientAverage) -> None:
        """Note a network's buckets of gradients when they are whole, in their order, and where backward ends."""
        bucket_of = {id(each): number for number, bucket in enumerate(average.buckets) for each in bucket}
        sizes = [sum(each.numel() * each.element_size() for each in bucket) for bucket in average.buckets]
        missing: list[int] = []  # gradients of each bucket that was not noted yet

        def arrived(parameter: nn.Parameter) -> None:
            missing[bucket_of[id(parameter)] - len(sizes)] -= 1  # from the end, since the first ones go
            while missing and not missing[0]:
                self.note(sizes[-len(missing)], BUCKET)
                del missing[0]

        def backward(loss: Tensor) -> None:
            missing[:] = [len(bucket) for bucket in average.buckets]
            loss.backward()
            for size in sizes[len(sizes) - len(missing) :]:
                self.note(size, BUCKET)
            self.note(0, BACKWARD_END)

        for parameter in (each for bucket in average.buckets for each in bucket):
            parameter.register_post_accumulate_grad_hook(arrived)
        average.backward = backward

    def _note_sums(self, norm: nn.Module, _: object, normed: Tensor) -> None:
        forward, backward = sums_sent(norm.num_features, self.device.type)
        self._note_all(forward)
        normed.register_hook(lambda _: self._note_all(backward))

    def _note_all(self, messages: Sequence[tuple[int, str]]) -> None:
        for num_bytes, kind in messages:
            self.note(num_bytes, kind)

    def _mark(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, start: Any, end: Any) -> float:
        return start.elapsed_time(end) / 1000 if self.device.type == "cuda" else end - start
