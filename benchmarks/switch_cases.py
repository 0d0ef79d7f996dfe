"""Our step of the adversarial training beside the same with one optimisation switched off."""

import types
from collections.abc import Callable, Iterator

import torch

from attngan.data.dataset import Batch
from benchmarks import plain
from benchmarks.measure import Case, Work
from benchmarks.scene import Scene
from benchmarks.training_cases import our_gan_step, within


def switches(scene: Scene) -> Iterator[Case]:
    """Our step of the adversarial training beside the same with one optimisation less."""
    step, size = our_gan_step(scene.gan_run(), scene), scene.config.training.batch_size
    for name, less in _SWITCHED_OFF.items():
        yield Case(f"step but for {name}", less(scene), step, size, "images", plain_keeps_memory=True)
    for setting in ("compile", "cuda_graph"):
        if getattr(scene.config, setting):
            less = our_gan_step(scene.gan_run(**{setting: False}), scene)
            yield Case(f"step but for {setting}", less, step, size, "images", plain_keeps_memory=True)
    yield Case("step but for kept memory", our_gan_step(scene.gan_run(), scene), step, size, "images")


def _without_channels_last(scene: Scene) -> Work:
    run = scene.gan_run()
    plain.lay_out_as_usual_(run)
    return our_gan_step(run, scene)


def _without_kept_captions(scene: Scene) -> Work:
    run = scene.gan_run()

    @torch.no_grad()
    def read(batch: Batch) -> tuple[torch.Tensor, ...]:
        return *run.text_encoder(batch.word_ids, batch.lengths), batch.is_padding

    run.captions = types.SimpleNamespace(take=read)
    return our_gan_step(run, scene)


def _with_useless_gradients(scene: Scene) -> Work:
    run = scene.gan_run()
    for discriminator in run.discriminators:
        discriminator.requires_grad_ = lambda needed: None  # stays as it is: asked for
    return our_gan_step(run, scene)


def _with_adam_as_it_comes(scene: Scene) -> Work:
    run = scene.gan_run()
    run.generator_optimiser, *run.discriminator_optimisers = plain.plain_adams(run)
    return our_gan_step(run, scene)


_SWITCHED_OFF: dict[str, Callable[[Scene], Work]] = {
    "bfloat16": lambda scene: our_gan_step(scene.gan_run(precision="float32"), scene),
    "channels last": _without_channels_last,
    "enlarging while convolving": lambda scene: within(
        plain.enlarging_before_convolving, our_gan_step(scene.gan_run(), scene)
    ),
    "captions read once": _without_kept_captions,
    "leaving useless gradients out": _with_useless_gradients,
    "fused Adam": _with_adam_as_it_comes,
}
