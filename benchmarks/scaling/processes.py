"""Processes that train together for a measurement, and what each of them finds."""

import contextlib
import io
import json
import os
import socket
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing

from attngan.config.settings import Config
from attngan.data.dataset import Batch, Dataset
from attngan.losses.damsm import damsm_losses
from attngan.runtime import acceleration, distributed
from attngan.training.gan_run import GanRun
from attngan.training.gan_step import batch_for, training_step
from benchmarks.measure import seconds_of
from benchmarks.scaling.model import LINK_BYTES, Message, link_of
from benchmarks.scaling.timeline import Timeline

COUNTS = (1, 2, 4, 8)  # of processes
WARM_UP = 3  # steps
BURST = 10  # sent one after the other for a timing, so that it holds no wait of the host for the device


def work(rank: int, count: int, port: int, folder: Path, config: Config, num_steps: int) -> None:
    """Be one of the processes: take steps, and leave in `found.json` what was measured."""
    local = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ |= {name: str(value) for name, value in {**local, "MASTER_PORT": port}.items()}
    os.environ["MASTER_ADDR"] = "localhost"
    with (
        contextlib.redirect_stdout(io.StringIO()),  # every start would tell of its captions
        distributed.joined(config.device, config.num_threads),
    ):
        device = acceleration.set_up_device(config)
        train = Dataset.open(folder / "dataset", "train")
        run = GanRun(config, train, folder / "damsm", device)
        batch = batch_for(run, train, 0, 0)
        found: dict[str, Any] = {"seconds": [_timed_step(run, batch) for _ in range(WARM_UP + num_steps)][WARM_UP:]}
        if count > 1:
            found["link"] = link_of([_sending(size, device) for size in LINK_BYTES], count)
        else:
            found["whole batch"] = [_whole_batch_seconds(run, batch, each) for each in COUNTS]
            found["messages"], found["end"] = _timeline(run, batch, num_steps)
        if distributed.is_first():
            (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


def _timed_step(run: GanRun, batch: Batch) -> float:
    """Return the seconds from when all processes begin a step to when the last one is done."""
    distributed.in_any_process(True)
    seconds = torch.tensor(seconds_of(lambda: training_step(run, batch), run.device))
    run.step += 1
    if distributed.world_size() > 1:
        dist.all_reduce(seconds, dist.ReduceOp.MAX)
    return seconds.item()


def _timeline(run: GanRun, batch: Batch, num_steps: int) -> tuple[list[Message], float]:
    """Return the messages and the seconds of the middle one of several steps."""
    timeline = Timeline(run.device)
    for network in (run.generator, run.discriminators):
        timeline.watch_batch_norms(network)
    timeline.watch_scores()
    run.discriminators.requires_grad_(True)  # as each is for its own update; without, it takes no hooks
    for learner in (run.generator_learner, *run.discriminator_learners):
        timeline.watch_gradients(learner.gradients)
    noted = [timeline.step(lambda: training_step(run, batch)) for _ in range(num_steps)]
    return sorted(noted, key=lambda each: each[1])[num_steps // 2]


def _whole_batch_seconds(run: GanRun, batch: Batch, count: int) -> float:
    """Return how long the DAMSM's losses take of such a batch against the captions of `count` of them."""
    with torch.no_grad(), run.autocast():
        seen = [each.float() for each in run.image_encoder(batch.images[-1])]
    *captions, is_padding = (each.repeat(count, *[1] * (each.ndim - 1)) for each in run.captions.take(batch))
    for each in seen:
        each.requires_grad_(True)

    def losses() -> None:
        gammas = run.config.damsm.gammas
        with run.autocast():
            found = damsm_losses(seen, captions, is_padding, **gammas, gather=lambda rows: rows.repeat(count, 1))
        sum(found.values()).backward()

    return statistics.median([seconds_of(losses, run.device) for _ in range(4)][1:])


def _sending(num_bytes: int, device: torch.device) -> float:
    tensor = torch.zeros(num_bytes // 4, device=device)
    burst = [seconds_of(lambda: [dist.all_reduce(tensor) for _ in range(BURST)], device) for _ in range(6)]
    return statistics.median(burst[1:]) / BURST


def measured(counts: Sequence[int], num_rounds: int, num_steps: int, folder: Path, config: Config) -> dict[int, list]:
    """Return what processes found, by their count, of each round; in a round each count has its turn."""
    found: dict[int, list] = {count: [] for count in counts}
    for count in list(counts) * num_rounds:
        whole = config.training.model_copy(update={"batch_size": count * config.training.batch_size})
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        given = (count, port, folder, config.model_copy(update={"training": whole}), num_steps)
        torch.multiprocessing.spawn(work, given, nprocs=count)
        found[count].append(json.loads((folder / "found.json").read_text(encoding="utf-8")))
    return found
