"""Both trainings' steps: the paper's way beside ours, part by part, and ours with each optimisation switched off."""

import contextlib
import functools
import types
from collections.abc import Callable, Iterator

import torch
from torch.utils.flop_counter import FlopCounterMode

from attngan import gan_step, train_generator
from attngan import pretrain_damsm as damsm_step
from attngan.damsm_features import kept_features
from attngan.damsm_run import DamsmRun
from attngan.data.dataset import Batch
from attngan.gan_run import GanRun
from attngan.losses.adversarial import discriminator_loss
from attngan.losses.damsm import damsm_losses, word_scores
from benchmarks import plain
from benchmarks.measure import Case, Work
from benchmarks.scene import Scene

GAMMAS = {"gamma1": 4.0, "gamma2": 5.0}


def damsm(scene: Scene) -> Iterator[Case]:
    """A step of pretraining: the trunk in each step, or asked once."""
    ours, plain_run = scene.damsm_run(), plain.PlainDamsm(scene.damsm_run(precision="float32"))
    size = scene.config.damsm.batch_size
    asked_anew, step = _damsm_step(scene.damsm_run(), scene), _damsm_step(ours, scene)
    plain_step = functools.partial(_plain_step, plain_run, damsm_step.batch_for, scene)
    with kept_features(ours, scene.train, scene.test, dict.fromkeys(("dataset", "inception", "code"), "bench")):
        yield Case("DAMSM step", plain_step, step, size, "images", _flops(step))
        yield Case("  but for the kept features", asked_anew, step, size, "images", plain_keeps_memory=True)


def word_loss(scene: Scene) -> Iterator[Case]:
    """All captions of a batch against all of its pictures, or one caption after the other."""
    size, device = scene.config.damsm.batch_size, scene.device
    regions = torch.randn(size, 256, 17, 17, device=device, requires_grad=True)
    words = torch.randn(size, 256, 18, device=device, requires_grad=True)
    is_padding = torch.zeros(size, 18, dtype=torch.bool, device=device)
    run = scene.damsm_run()

    def ours() -> None:
        with run.autocast():
            word_scores(regions, words, is_padding, **GAMMAS).sum().backward()

    def looped() -> None:
        plain.word_scores(regions, words, [18] * size, **GAMMAS).sum().backward()

    yield Case("word loss", looped, ours, size, "images", _flops(ours))


def gan(scene: Scene) -> Iterator[Case]:
    """A step of the adversarial training, whole and by part."""
    plain_gan, ours = (
        plain.PlainGan(scene.gan_run(precision="float32", compile=False, cuda_graph=False)),
        scene.gan_run(),
    )
    size = scene.config.training.batch_size
    plain_step = functools.partial(_plain_step, plain_gan, train_generator.batch_for, scene)
    step = _gan_step(ours, scene)
    yield Case("generator training step", plain_step, step, size, "images", _flops(step))
    for name, plain_part, part in _parts(plain_gan.run, ours, scene):
        yield Case(f"  {name}", plain_part, part, size, "images", _flops(part))


def switches(scene: Scene) -> Iterator[Case]:
    """Our step of the adversarial training beside the same with one optimisation less."""
    step, size = _gan_step(scene.gan_run(), scene), scene.config.training.batch_size
    for name, less in _SWITCHED_OFF.items():
        yield Case(f"step but for {name}", less(scene), step, size, "images", plain_keeps_memory=True)
    for setting in ("compile", "cuda_graph"):
        if getattr(scene.config, setting):
            less = _gan_step(scene.gan_run(**{setting: False}), scene)
            yield Case(f"step but for {setting}", less, step, size, "images", plain_keeps_memory=True)
    yield Case("step but for kept memory", _gan_step(scene.gan_run(), scene), step, size, "images")


def toy(scene: Scene) -> Iterator[Case]:
    """Steps of `make demo`: small networks on drawn birds."""
    small = scene.toy()
    plain_damsm = plain.PlainDamsm(small.damsm_run(precision="float32"))
    works = [functools.partial(_plain_step, plain_damsm, damsm_step.batch_for, small)]
    works.append(_damsm_step(small.damsm_run(), small))
    yield Case("DAMSM step (toy)", *works, small.config.damsm.batch_size, "images", _flops(works[1]))
    plain_gan = plain.PlainGan(small.gan_run())
    works = [functools.partial(_plain_step, plain_gan, train_generator.batch_for, small)]
    works.append(_gan_step(small.gan_run(), small))
    yield Case("generator training step (toy)", *works, small.config.training.batch_size, "images", _flops(works[1]))


def _damsm_step(run: DamsmRun, scene: Scene) -> Work:
    return lambda: damsm_step.training_step(run, damsm_step.batch_for(run, scene.train, 0, 0))


def _gan_step(run: GanRun, scene: Scene) -> Work:
    return lambda: gan_step.training_step(run, train_generator.batch_for(run, scene.train, 0, 0))


def _plain_step(training: plain.PlainDamsm | plain.PlainGan, batch_for: Callable, scene: Scene) -> None:
    training.step(batch_for(training.run, scene.train, 0, 0))


def _inputs(run: GanRun, scene: Scene):
    batch = train_generator.batch_for(run, scene.train, 0, 0)
    with torch.no_grad():
        words, sentence = run.text_encoder(batch.word_ids, batch.lengths)
    noise = torch.randn(len(sentence), run.generator.noise_dim, device=run.device)
    epsilon = torch.randn(len(sentence), run.generator.condition_dim, device=run.device)
    return batch, words, sentence, noise, epsilon


def _generator(run: GanRun, scene: Scene) -> Work:
    batch, words, sentence, noise, epsilon = _inputs(run, scene)

    def work() -> None:
        with run.autocast():
            drawn = run.generator(noise, sentence, words, batch.is_padding, epsilon=epsilon)
        sum(images.float().square().mean() for images in drawn.images).backward()

    return work


def _image_encoder(run: GanRun, scene: Scene) -> Work:
    images = _inputs(run, scene)[0].images[-1].clone().requires_grad_()

    def work() -> None:
        with run.autocast():
            regions, image = run.image_encoder(images)
        (regions.float().mean() + image.float().mean()).backward()

    return work


def _features(run: GanRun, scene: Scene):
    batch, words, sentence, _, _ = _inputs(run, scene)
    with torch.no_grad(), run.autocast():
        seen = [each.float() for each in run.image_encoder(batch.images[-1])]
    return [each.requires_grad_() for each in seen], (words, sentence), batch


def _losses(run: GanRun, scene: Scene) -> Work:
    images, captions, batch = _features(run, scene)

    def work() -> None:
        with run.autocast():
            losses = damsm_losses(images, captions, batch.is_padding, batch.class_ids, **run.config.damsm.gammas)
        sum(losses.values()).backward()

    return work


def _looped_losses(run: GanRun, scene: Scene) -> Work:
    images, captions, batch = _features(run, scene)
    return lambda: sum(plain.damsm_losses(images, captions, batch, **run.config.damsm.gammas).values()).backward()


def _discriminator(run: GanRun, scene: Scene, index: int, loss_of: Callable) -> Work:
    batch, _, sentence, _, _ = _inputs(run, scene)
    discriminator, real = run.discriminators[index].requires_grad_(True), batch.images[index]
    fake = torch.rand_like(real) * 2 - 1

    def work() -> None:
        with run.autocast():
            loss = loss_of(discriminator, real, fake, sentence)
        loss.backward()

    return work


def _our_discriminator_loss(*arguments: torch.Tensor) -> torch.Tensor:
    return discriminator_loss(*arguments)[0]


def _parts(plain_run: GanRun, ours: GanRun, scene: Scene) -> Iterator[tuple[str, Work, Work]]:
    """Give the parts of a step: name, the plain way, ours."""
    enlarging_first = _within(plain.enlarging_before_convolving, _generator(plain_run, scene))
    yield "generator", enlarging_first, _generator(ours, scene)
    yield "image encoder on drawn pictures", _image_encoder(plain_run, scene), _image_encoder(ours, scene)
    yield "DAMSM losses", _looped_losses(plain_run, scene), _losses(ours, scene)
    for index, resolution in enumerate(scene.config.resolutions):
        works = [
            _discriminator(run, scene, index, loss_of)
            for run, loss_of in ((plain_run, plain.discriminator_loss), (ours, _our_discriminator_loss))
        ]
        yield f"discriminator {resolution}", works[0], works[1]


def _within(context: Callable[[], contextlib.AbstractContextManager[None]], work: Work) -> Work:
    def inside() -> None:
        with context():
            work()

    return inside


def _without_channels_last(scene: Scene) -> Work:
    run = scene.gan_run()
    plain.lay_out_as_usual_(run)
    return _gan_step(run, scene)


def _without_kept_captions(scene: Scene) -> Work:
    run = scene.gan_run()

    @torch.no_grad()
    def read(batch: Batch) -> tuple[torch.Tensor, ...]:
        return *run.text_encoder(batch.word_ids, batch.lengths), batch.is_padding

    run.captions = types.SimpleNamespace(take=read)
    return _gan_step(run, scene)


def _with_useless_gradients(scene: Scene) -> Work:
    run = scene.gan_run()
    for discriminator in run.discriminators:
        discriminator.requires_grad_ = lambda needed: None  # stays as it is: asked for
    return _gan_step(run, scene)


def _with_adam_as_it_comes(scene: Scene) -> Work:
    run = scene.gan_run()
    run.generator_optimiser, *run.discriminator_optimisers = plain.plain_adams(run)
    return _gan_step(run, scene)


_SWITCHED_OFF: dict[str, Callable[[Scene], Work]] = {
    "bfloat16": lambda scene: _gan_step(scene.gan_run(precision="float32"), scene),
    "channels last": _without_channels_last,
    "enlarging while convolving": lambda scene: _within(
        plain.enlarging_before_convolving, _gan_step(scene.gan_run(), scene)
    ),
    "captions read once": _without_kept_captions,
    "leaving useless gradients out": _with_useless_gradients,
    "fused Adam": _with_adam_as_it_comes,
}


def _flops(work: Work) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())
