"""Pictures in, pictures out: preprocess, reading batches, drawing, evaluating."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import torchvision
from PIL import Image
from torch import Tensor

from attngan.data import images
from attngan.inference.export_onnx import export_onnx
from attngan.inference.text_to_image import TextToImage
from attngan.runtime import machine
from attngan.steps.evaluate import evaluate
from attngan.steps.preprocess import preprocess
from attngan.storage import artifacts
from attngan.training import gan_step
from benchmarks.measure import Case
from benchmarks.scene import Scene, make_photographs

NUM_PREPROCESSED = 1000  # photographs
NUM_READ = 20  # batches
CAPTION = "a bird with wings of many colours"


def loader(scene: Scene) -> Iterator[Case]:
    """Training batches from the packed dataset, or from its JPEGs."""
    run, size = scene.gan_run(), scene.config.training.batch_size
    paths = sorted(scene.source.glob("*.jpg"))[:size]

    def decoded() -> None:
        for _ in range(NUM_READ):
            _decoded(paths, scene.config.resolutions)

    def packed() -> None:
        for step in range(NUM_READ):
            gan_step.batch_for(run, scene.train, step, 0)

    yield Case("read training batches", decoded, packed, NUM_READ * size, "images", plain_keeps_memory=True)


def preprocessing(scene: Scene) -> Iterator[Case]:
    """The whole of preprocess, beside nothing but the JPEG decoder on every core."""
    source = make_photographs(scene.folder / "more photographs", NUM_PREPROCESSED)
    paths = sorted(source.glob("*.jpg"))

    def decoder() -> None:
        with ThreadPoolExecutor(machine.num_cores()) as pool:
            list(pool.map(images.decode, paths))

    def whole() -> None:
        preprocess(source, scene.folder / "again", scene.config)

    yield Case("preprocess (plain: decoding)", decoder, whole, len(paths), "images", plain_keeps_memory=True)


def sampling(scene: Scene) -> Iterator[Case]:
    """A picture from a sentence, by torch and by onnxruntime."""
    folder = scene.folder / "bundle"
    _save_model(scene, folder, "bundle")
    model = TextToImage.open(folder, kind="bundle", device=scene.device)
    yield Case("draw a picture (torch)", None, lambda: list(model.variants(CAPTION, 1, 0)), 1, "pictures")
    yield from _onnx(folder, scene.folder / "onnx", model)


def evaluation(scene: Scene) -> Iterator[Case]:
    """All figures of some generated pictures, from the first one to the report."""
    generator, count = scene.folder / "generator", scene.config.evaluate.num_images
    _save_model(scene, generator, "generator")

    def whole() -> None:
        place = scene.folder / "metrics"
        evaluate(scene.folder / "dataset", scene.folder / "damsm", generator, place, scene.config)

    yield Case("evaluate", None, whole, count, "pictures")


def _save_model(scene: Scene, folder: Path, kind: str) -> None:
    run = scene.gan_run()
    folder.mkdir(parents=True, exist_ok=True)
    model = TextToImage(scene.config, scene.train.vocabulary, run.text_encoder, run.generator_ema, scene.device)
    artifacts.finish(folder, kind, model.save(folder), generator="untrained")


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


def _onnx(bundle: Path, out: Path, model: TextToImage) -> Iterator[Case]:
    try:
        import onnxruntime

        export_onnx(bundle, out)
    except ImportError:
        return
    sessions = [
        onnxruntime.InferenceSession(out / name, providers=["CPUExecutionProvider"])
        for name in ("text_encoder.onnx", "generator.onnx")
    ]
    word_ids, lengths = (each.numpy() for each in model.read([CAPTION]))
    noise, epsilon = (each.numpy() for each in model.noise(1, 0))

    def draw() -> None:
        words, sentence = sessions[0].run(None, {"word_ids": word_ids, "lengths": lengths})
        given = {"noise": noise, "epsilon": epsilon, "word_features": words, "sentence_feature": sentence}
        given["is_padding"] = word_ids == 0
        sessions[1].run(None, {each.name: given[each.name] for each in sessions[1].get_inputs()})  # one stage: no words

    yield Case("draw a picture (onnxruntime)", None, draw, 1, "pictures")
