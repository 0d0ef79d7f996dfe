"""Both trainings' steps: the paper's way beside ours, whole and part by part."""

import contextlib
import functools
from collections.abc import Callable, Iterator

import torch
from torch.utils.flop_counter import FlopCounterMode

from attngan.data.dataset import Batch
from attngan.losses import as_written
from attngan.losses.adversarial import discriminator_loss
from attngan.losses.damsm import damsm_losses, word_scores
from attngan.runtime.step_graph import NUM_WARM_UPS
from attngan.training import damsm_step, gan_step, trunk_features
from attngan.training.damsm_features import extract, kept_features
from attngan.training.damsm_run import DamsmRun
from attngan.training.gan_run import GanRun
from attngan.training.run import TrainingRun
from benchmarks import plain
from benchmarks.measure import Case, Work
from benchmarks.scene import Scene

GAMMAS = {"gamma1": 4.0, "gamma2": 5.0}


def damsm(scene: Scene) -> Iterator[Case]:
    """A step of pretraining: the trunk in each step, or asked once."""
    ours, anew, plain_run = scene.damsm_run(), scene.damsm_run(), plain.PlainDamsm(scene.damsm_run(precision="float32"))
    size = scene.config.damsm.batch_size
    asked_anew, step = our_damsm_step(anew, scene), our_damsm_step(ours, scene)
    plain_step = _one_after_another(plain_run.run, plain_run.step, damsm_step.batch_for, scene)
    with kept_features(ours, scene.train, scene.test, dict.fromkeys(("dataset", "inception"), "bench")):
        case = _counted("DAMSM step", plain_step, step, size, ours)
        for run, work in ((ours, step), (anew, asked_anew)):
            _warm_up(run, work)
        yield case
        yield Case("  but for the kept features", asked_anew, step, size, "images", plain_keeps_memory=True)
        if scene.device.type == "cpu":
            packed = within(plain.reading_packed_captions, step)
            yield Case("  but for captions turned round", packed, step, size, "images", plain_keeps_memory=True)
    some = range(trunk_features.BATCH_SIZE)
    yield Case("  look at a view, once", None, lambda: extract(ours, scene.train, some), len(some), "views")


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
        as_written.word_scores(regions, words, [18] * size, **GAMMAS).sum().backward()

    yield _counted("word loss", looped, ours, size, run)


def gan(scene: Scene) -> Iterator[Case]:
    """A step of the adversarial training, whole and by part."""
    plain_gan, ours = (
        plain.PlainGan(scene.gan_run(precision="float32", compile="off", cuda_graph="off")),
        scene.gan_run(),
    )
    size = scene.config.training.batch_size
    plain_step = _one_after_another(plain_gan.run, plain_gan.step, gan_step.batch_for, scene)
    step = _gan_step(ours, scene)
    case = _counted("generator training step", plain_step, step, size, ours)
    _warm_up(ours, step)
    yield case
    for name, plain_part, part in _parts(plain_gan.run, ours, scene):
        yield _counted(f"  {name}", plain_part, part, size, ours)


def toy(scene: Scene) -> Iterator[Case]:
    """Steps of `make demo`: small networks on drawn birds."""
    small = scene.toy
    plain_damsm, damsm_run = plain.PlainDamsm(small.damsm_run()), small.damsm_run()
    plain_step = _one_after_another(plain_damsm.run, plain_damsm.step, damsm_step.batch_for, small)
    step = our_damsm_step(damsm_run, small)
    case = _counted("DAMSM step (toy)", plain_step, step, small.config.damsm.batch_size, damsm_run)
    _warm_up(damsm_run, step)
    yield case
    plain_gan, gan_run = plain.PlainGan(small.gan_run()), small.gan_run()
    plain_step = _one_after_another(plain_gan.run, plain_gan.step, gan_step.batch_for, small)
    step, size = our_gan_step(gan_run, small), small.config.training.batch_size
    yield _counted("generator training step (toy)", plain_step, step, size, gan_run)


def _counted(name: str, plain_work: Work, ours: Work, size: int, run: TrainingRun) -> Case:
    """Return a case on `size` images with the operations that ours takes."""
    return Case(name, plain_work, ours, size, "images", _flops(ours), run.precision)


def our_damsm_step(run: DamsmRun, scene: Scene) -> Work:
    """Return what takes our steps of the pretraining."""
    return _one_after_another(run, functools.partial(damsm_step.training_step, run), damsm_step.batch_for, scene)


def our_gan_step(run: GanRun, scene: Scene) -> Work:
    """Return what takes our steps of the adversarial training, recorded where the run records them."""
    step = _gan_step(run, scene)
    _warm_up(run, step)
    return step


def _gan_step(run: GanRun, scene: Scene) -> Work:
    return _one_after_another(run, functools.partial(gan_step.training_step, run), gan_step.batch_for, scene)


def _warm_up(run: TrainingRun, step: Work) -> None:
    """Take steps until one is recorded, if any is; its operations cannot be counted any more."""
    if run.recorder is not None:
        for _ in range(NUM_WARM_UPS + 1):
            step()


def _one_after_another(
    run: TrainingRun, take_step: Callable[[Batch], object], batch_for: Callable[..., Batch], scene: Scene
) -> Work:
    def step() -> None:
        take_step(batch_for(run, scene.train, run.step, 0))
        run.step += 1

    return step


def _inputs(run: GanRun, scene: Scene):
    batch = gan_step.batch_for(run, scene.train, 0, 0)
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
    generated = torch.rand_like(real) * 2 - 1

    def work() -> None:
        with run.autocast():
            loss = loss_of(discriminator, real, generated, sentence)
        loss.backward()

    return work


def _our_discriminator_loss(*arguments: torch.Tensor) -> torch.Tensor:
    return discriminator_loss(*arguments)[0]


def _parts(plain_run: GanRun, ours: GanRun, scene: Scene) -> Iterator[tuple[str, Work, Work]]:
    """Give the parts of a step: name, the plain way, ours."""
    enlarging_first = within(plain.enlarging_before_convolving, _generator(plain_run, scene))
    yield "generator", enlarging_first, _generator(ours, scene)
    yield "image encoder on drawn pictures", _image_encoder(plain_run, scene), _image_encoder(ours, scene)
    yield "DAMSM losses", _looped_losses(plain_run, scene), _losses(ours, scene)
    for index, resolution in enumerate(scene.config.resolutions):
        works = [
            _discriminator(run, scene, index, loss_of)
            for run, loss_of in ((plain_run, plain.discriminator_loss), (ours, _our_discriminator_loss))
        ]
        yield f"discriminator {resolution}", works[0], works[1]


def within(context: Callable[[], contextlib.AbstractContextManager[None]], work: Work) -> Work:
    """Return what does the work inside a new context each time."""

    def inside() -> None:
        with context():
            work()

    return inside


def _flops(work: Work) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())
