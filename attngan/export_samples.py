"""Step: draw captions into a gallery with the attention of their words, and pack the model into a bundle."""

from pathlib import Path
from typing import Any

from PIL import Image

from attngan import artifacts, pictures, report, weights
from attngan.bundle import write_bundle
from attngan.config import Config
from attngan.data.dataset import Dataset
from attngan.errors import InputError
from attngan.overlays import attention_overlays
from attngan.run_log import progress, say
from attngan.text_to_image import TextToImage

SHOWN_SIDE = 256  # pixels: pictures are enlarged to at least this for the gallery


def export_samples(
    generator: Path,
    gallery: Path,
    bundle: Path,
    config: Config,
    *,
    dataset: Path | None = None,
    metrics: Path | None = None,
) -> dict[str, Any]:
    """Write the `gallery` (one HTML page and its pictures) and the `bundle` folder.

    Args:
        generator: folder of `train_generator`.
        gallery: gets `index.html` and the PNG files.
        bundle: gets all that drawing needs, and where it comes from.
        config: reads `samples`, `seed`, `device`; the networks' settings come with the generator.
        dataset: gives captions of the test split where `samples.captions` is empty.
        metrics: folder of `evaluate`, kept in the bundle's provenance.

    Returns:
        The bundle's provenance.
    """
    model = TextToImage.open(generator, kind="generator", device=weights.choose_device(config))
    captions = _captions(config, dataset)
    artifacts.begin(gallery)
    entries, files = [], []
    with progress("gallery", total=len(captions), unit="captions") as advance:
        for number, caption in enumerate(captions):
            for note in model.notes(caption):
                say(f"{caption!r}: {note}")
            entry, written = _draw_entry(model, caption, config, gallery, f"{number:03d}")
            entries.append(entry)
            files += written
            advance(1)
    page = report.render("gallery.html.j2", entries=entries, resolutions=model.generator.resolutions)
    artifacts.write_text(gallery / "index.html", page)
    manifest = artifacts.finish(gallery, "gallery", [*files, "index.html"], captions=captions)
    say(f"gallery: {len(captions)} captions, {len(manifest['files']) - 1} pictures")
    return write_bundle(generator, bundle, metrics)


def _captions(config: Config, dataset: Path | None) -> list[str]:
    if config.samples.captions:
        return list(config.samples.captions)
    if dataset is None:
        raise InputError("samples.captions is empty: give captions there, or a --dataset whose test captions to draw.")
    records = Dataset.open(dataset, "test").records
    count = min(config.samples.num_test_captions, len(records))
    return [records[index * len(records) // count]["captions"][0] for index in range(count)]


def _draw_entry(
    model: TextToImage, caption: str, config: Config, gallery: Path, name: str
) -> tuple[dict[str, Any], list[str]]:
    """Draw every variant of one caption at every stage, and the attention of the first; return it for the page."""
    count = config.samples.variants
    word_ids, lengths = model.read([caption])
    noise, epsilon = model.noise(count, config.seed, "gallery")
    drawn = model.draw(word_ids.expand(count, -1), lengths.expand(count), noise, epsilon)
    side = max(SHOWN_SIDE, model.generator.resolutions[-1])
    stages = [pictures.to_pictures(images, side=side) for images in drawn.images]
    sheet = pictures.grid(stages, gap=4)
    written = [f"{name}-stages.png"]
    pictures.save(sheet, gallery / written[0])
    entry: dict[str, Any] = {"caption": caption, "stages": [], "attention": []}
    for resolution, row in zip(model.generator.resolutions, stages, strict=True):
        entry["stages"].append({"resolution": resolution, "pngs": [_small_png(picture, resolution) for picture in row]})
    if drawn.attention:
        words = [model.vocabulary.words[index] for index in word_ids[0].tolist()]
        overlays = attention_overlays(drawn.attention[-1][0], words, stages[-1][0], config.samples.num_attention_words)
        written.append(f"{name}-attention.png")
        pictures.save(pictures.grid([[overlay for _, overlay in overlays]], gap=4), gallery / written[1])
        entry["attention"] = [{"word": word, "png": _small_png(picture, SHOWN_SIDE)} for word, picture in overlays]
    return entry, written


def _small_png(picture: Image.Image, side: int) -> str:
    """Return a picture for the page at no more pixels than it has to say something with."""
    side = min(picture.width, max(side, 128))
    return report.data_uri(pictures.to_png(picture.resize((side, side), Image.Resampling.BICUBIC)))
