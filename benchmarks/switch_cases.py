"""Our step of the adversarial training beside the same with one optimization switched off."""

import contextlib
import types
from collections.abc import Callable, Iterator

import torch

from attngan.data.dataset import Batch
from attngan.training.gan_run import GanRun
from benchmarks import plain
from benchmarks.measure import Case
from benchmarks.scene import Scene
from benchmarks.training_cases import our_gan_step, within

Context = Callable[[], contextlib.AbstractContextManager[None]]


def switches(scene: Scene) -> Iterator[Case]:
    """Our step of the adversarial training beside the same with one optimization less."""
    step, size = our_gan_step(scene.gan_run(), scene), scene.config.training.batch_size
    in_float32 = our_gan_step(scene.gan_run(precision="float32"), scene)
    yield Case("step but for bfloat16", in_float32, step, size, "images", plain_keeps_memory=True)
    small = scene.toy
    steps = {scene: step, small: our_gan_step(small.gan_run(), small)}
    for name, switch_off in LESS.items():
        where = small if switch_off is _all_at_once else scene  # the paper's discriminators have batch norm
        run, count = where.gan_run(), where.config.training.batch_size
        context = switch_off(run) or contextlib.nullcontext
        with context():  # where a step may be recorded already
            less = within(context, our_gan_step(run, where))
        label = f"{'toy ' if where is small else ''}step but for {name}"
        yield Case(label, less, steps[where], count, "images", plain_keeps_memory=True)
    for setting in ("compile", "cuda_graph"):
        if getattr(scene.config, setting) == "on":
            less = our_gan_step(scene.gan_run(**{setting: "off"}), scene)
            yield Case(f"step but for {setting}", less, step, size, "images", plain_keeps_memory=True)
    yield Case("step but for kept memory", our_gan_step(scene.gan_run(), scene), step, size, "images")


def _channels_last(run: GanRun) -> None:
    plain.lay_out_as_usual_(run)


def _kept_captions(run: GanRun) -> None:
    @torch.no_grad()
    def read(batch: Batch) -> tuple[torch.Tensor, ...]:
        return *run.text_encoder(batch.word_ids, batch.lengths), batch.is_padding

    run.captions = types.SimpleNamespace(take=read)


def _useless_gradients(run: GanRun) -> None:
    for discriminator in run.discriminators:
        discriminator.requires_grad_ = lambda needed: None  # stays as it is: asked for


def _fused_adam(run: GanRun) -> None:
    for learner, adam in zip(run.learners().values(), plain.plain_adams(run), strict=True):
        learner.optimizer = adam


def _enlarging(run: GanRun) -> Context:
    return plain.enlarging_before_convolving


def _all_at_once(run: GanRun) -> None:
    for discriminator in run.discriminators:
        discriminator.has_batch_norm = True  # or as if it had


LESS: dict[str, Callable[[GanRun], Context | None]] = {  # by optimization, what switches it off in a run
    "channels last": _channels_last,
    "enlarging while convolving": _enlarging,
    "captions read once": _kept_captions,
    "leaving useless gradients out": _useless_gradients,
    "fused Adam": _fused_adam,
    "all pictures at once": _all_at_once,  # nothing, where discriminators have batch norm
}
