"""The cases: each the plain way beside ours."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from attngan import artifacts, train_generator
from attngan import pretrain_damsm as damsm_step
from attngan.damsm_features import kept_features
from attngan.damsm_run import DamsmRun
from attngan.data import images as data_images
from attngan.export_onnx import export_onnx
from attngan.gan_run import GanRun
from attngan.losses.adversarial import discriminator_loss
from attngan.losses.damsm import MIN_NORM, damsm_losses, word_scores
from attngan.preprocess import preprocess
from attngan.text_to_image import TextToImage
from benchmarks.measure import Case, Work
from benchmarks.scene import Scene, make_photographs

NUM_PREPROCESSED = 1000  # photographs
NUM_READ = 20  # batches


def damsm(scene: Scene) -> Iterator[Case]:
    """A step of pretraining: the trunk in each step, or asked once."""
    plain, ours = scene.damsm_run(precision="float32"), scene.damsm_run()
    size = scene.config.damsm.batch_size
    with kept_features(ours, scene.train, scene.test, dict.fromkeys(("dataset", "inception", "code"), "bench")):
        step = [_damsm_step(run, scene) for run in (plain, ours)]
        yield Case("DAMSM step", step[0], step[1], size, "images", _flops(step[0]))


def word_loss(scene: Scene) -> Iterator[Case]:
    """All captions of a batch against all of its pictures, or one caption after the other."""
    size, device = scene.config.damsm.batch_size, scene.device
    regions = torch.randn(size, 256, 17, 17, device=device, requires_grad=True)
    words = torch.randn(size, 256, 18, device=device, requires_grad=True)
    is_padding = torch.zeros(size, 18, dtype=torch.bool, device=device)
    gammas = {"gamma1": 4.0, "gamma2": 5.0}
    run = scene.damsm_run()

    def ours() -> None:
        with run.autocast():
            word_scores(regions, words, is_padding, **gammas).sum().backward()

    yield Case(
        "word loss", lambda: _looped_word_scores(regions, words, **gammas).sum().backward(), ours, size, "images"
    )


def gan(scene: Scene) -> Iterator[Case]:
    """A step of the adversarial training, whole and by part."""
    plain, ours = scene.gan_run(plain=True), scene.gan_run(plain=False)
    size = scene.config.training.batch_size
    steps = [_gan_step(run, scene) for run in (plain, ours)]
    yield Case("generator training step", steps[0], steps[1], size, "images", _flops(steps[0]))
    for name, part in _PARTS.items():
        works = [part(run, scene) for run in (plain, ours)]
        if works[0] is not None and works[1] is not None:
            yield Case(f"  {name}", works[0], works[1], size, "images", _flops(works[0]))
    for index, resolution in enumerate(scene.config.resolutions):
        works = [_discriminator(run, scene, index) for run in (plain, ours)]
        yield Case(f"  discriminator {resolution}", works[0], works[1], size, "images", _flops(works[0]))


def loader(scene: Scene) -> Iterator[Case]:
    """Training batches from the packed dataset, or from its JPEGs."""
    run, size = scene.gan_run(plain=True), scene.config.training.batch_size
    paths = sorted(scene.source.glob("*.jpg"))[:size]

    def decoded() -> None:
        for _ in range(NUM_READ):
            _decoded(paths, scene.config.resolutions)

    def packed() -> None:
        for step in range(NUM_READ):
            train_generator.batch_for(run, scene.train, step, 0)

    yield Case("read training batches", decoded, packed, NUM_READ * size, "images")


def preprocessing(scene: Scene) -> Iterator[Case]:
    """The whole of preprocess, beside nothing but decoding, cropping and resizing in one process."""
    source = make_photographs(scene.folder / "more photographs", NUM_PREPROCESSED)
    paths = sorted(source.glob("*.jpg"))

    def one_by_one() -> None:
        for path in paths:
            data_images.prepare(path, None, scene.config.data.resolution)

    def whole() -> None:
        preprocess(source, scene.folder / "again", scene.config)

    yield Case("preprocess", one_by_one, whole, len(paths), "images")


def sampling(scene: Scene) -> Iterator[Case]:
    """A picture from a sentence, by torch and by onnxruntime."""
    run = scene.gan_run(plain=True)
    folder = scene.folder / "bundle"
    artifacts.begin(folder)
    model = TextToImage(scene.config, scene.train.vocabulary, run.text_encoder, run.average, scene.device)
    artifacts.finish(folder, "bundle", model.save(folder))
    model = TextToImage.open(folder, kind="bundle", device=scene.device)
    caption = "a bird with wings of many colours"
    yield Case("draw a picture (torch)", None, lambda: list(model.variants(caption, 1, 0)), 1, "pictures")
    yield from _onnx(folder, scene.folder / "onnx", model, caption)


CASES: dict[str, Callable[[Scene], Iterator[Case]]] = {
    "damsm": damsm,
    "word_loss": word_loss,
    "gan": gan,
    "loader": loader,
    "preprocess": preprocessing,
    "sampling": sampling,
}


def _damsm_step(run: DamsmRun, scene: Scene) -> Work:
    return lambda: damsm_step.training_step(run, damsm_step.batch_for(run, scene.train, 0, 0))


def _gan_step(run: GanRun, scene: Scene) -> Work:
    return lambda: train_generator.training_step(run, train_generator.batch_for(run, scene.train, 0, 0))


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


def _losses(run: GanRun, scene: Scene) -> Work:
    batch, words, sentence, _, _ = _inputs(run, scene)
    with torch.no_grad(), run.autocast():
        seen = [each.float() for each in run.image_encoder(batch.images[-1])]
    regions, image = (each.requires_grad_() for each in seen)

    def work() -> None:
        with run.autocast():
            losses = damsm_losses(
                (regions, image), (words, sentence), batch.is_padding, batch.class_ids, **run.config.damsm.gammas
            )
        sum(losses.values()).backward()

    return work


def _discriminator(run: GanRun, scene: Scene, index: int) -> Work:
    batch, _, sentence, _, _ = _inputs(run, scene)
    discriminator, real = run.discriminators[index].requires_grad_(True), batch.images[index]
    fake = torch.rand_like(real) * 2 - 1

    def work() -> None:
        with run.autocast():
            loss, _ = discriminator_loss(discriminator, real, fake, sentence)
        loss.backward()

    return work


_PARTS = {"generator": _generator, "image encoder on drawn pictures": _image_encoder, "DAMSM losses": _losses}


def _decoded(paths: list[Path], resolutions: list[int]) -> list[Tensor]:
    """What the released code does for each batch: decode, cut a square at random, resize it for every stage."""
    transform = torchvision.transforms
    cut = [transform.Resize(resolutions[-1] * 76 // 64), transform.RandomCrop(resolutions[-1])]
    cut = transform.Compose([*cut, transform.RandomHorizontalFlip()])
    to_numbers = transform.Compose([transform.ToTensor(), transform.Normalize((0.5,) * 3, (0.5,) * 3)])
    batch = []
    for path in paths:
        with Image.open(path) as picture:
            square = cut(picture.convert("RGB"))
        coarse = [transform.Resize(side)(square) for side in resolutions[:-1]]
        batch.append([to_numbers(each) for each in (*coarse, square)])
    return [torch.stack(each) for each in zip(*batch, strict=True)]


def _looped_word_scores(regions: Tensor, words: Tensor, *, gamma1: float, gamma2: float) -> Tensor:
    """Eq. 7 to 10 as in the released code: one caption after the other against all pictures."""
    flat = regions.flatten(2)  # (I, D, R)
    columns = []
    for caption in words:  # (D, T)
        shares = (flat.transpose(1, 2) @ caption).softmax(dim=2)  # (I, R, T)
        attention = (gamma1 * shares).softmax(dim=1)
        context = flat @ attention  # (I, D, T)
        cosines = functional.cosine_similarity(context, caption[None], dim=1, eps=MIN_NORM)
        columns.append((gamma2 * cosines).logsumexp(dim=1))
    return torch.stack(columns, dim=1)


def _onnx(bundle: Path, out: Path, model: TextToImage, caption: str) -> Iterator[Case]:
    try:
        import onnxruntime

        export_onnx(bundle, out)
    except ImportError:
        return
    sessions = [
        onnxruntime.InferenceSession(out / name, providers=["CPUExecutionProvider"])
        for name in ("text_encoder.onnx", "generator.onnx")
    ]
    word_ids, lengths = (each.numpy() for each in model.read([caption]))
    noise, epsilon = (each.numpy() for each in model.noise(1, 0))

    def draw() -> None:
        words, sentence = sessions[0].run(None, {"word_ids": word_ids, "lengths": lengths})
        given = {"noise": noise, "epsilon": epsilon, "word_features": words, "sentence_feature": sentence}
        given["is_padding"] = word_ids == 0
        sessions[1].run(None, {each.name: given[each.name] for each in sessions[1].get_inputs()})  # one stage: no words

    yield Case("draw a picture (onnxruntime)", None, draw, 1, "pictures")


def _flops(work: Work) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())
