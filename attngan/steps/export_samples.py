"""Step: draw captions into a gallery, and pack the model into a bundle."""

from pathlib import Path
from typing import Any

from attngan.config.settings import Config
from attngan.data.captions import colours_before, words_of
from attngan.data.dataset import Dataset
from attngan.data.sampling import spread
from attngan.errors import InputError
from attngan.inference import trained_encoders
from attngan.inference.bundle import draw_examples, write_bundle
from attngan.inference.gallery import Gallery
from attngan.inference.text_to_image import TextToImage
from attngan.pages import report
from attngan.runtime import acceleration
from attngan.runtime.console import progress, say
from attngan.storage import artifacts
from attngan.storage.result_folder import result
from attngan.storage.uris import check_apart
from attngan.training import trackers

NUM_EXAMPLES = 8  # captions that the bundle gives to those who want to try it


def export_samples(
    generator: Path,
    gallery: Path,
    bundle: Path,
    config: Config,
    *,
    dataset: Path | None = None,
    damsm: Path | None = None,
    metrics: Path | None = None,
) -> dict[str, Any]:
    """Write the `gallery` (one HTML page and its pictures) and the `bundle` folder.

    Args:
        generator: folder of `train_generator`.
        gallery: gets `index.html` and the PNG files, each of which says what drew it, and of what.
        bundle: gets all that drawing needs, and where it comes from.
        config: reads `samples`, `card`, `seed`, `device`; the networks' settings come with the generator.
        dataset: its test split gives captions beside those of `samples.captions`.
        damsm: folder of `pretrain_damsm`, which orders the variants of a caption; None: they stay in their own order.
        metrics: folder of `evaluate`, kept in the bundle's provenance and told on its model card.

    Returns:
        The bundle's provenance.
    """
    inputs = [generator, dataset, damsm, metrics]
    check_apart([bundle, gallery], inputs)
    with (
        result(gallery, "gallery", inputs=[*inputs, bundle]) as shown_in,
        result(bundle, "bundle", inputs=[*inputs, gallery]) as packed_in,
    ):
        device = acceleration.set_up_device(config)
        with acceleration.beginning(device):
            model = TextToImage.open(generator, kind="generator", device=device)
        image_encoder = None
        if damsm is not None:
            image_encoder = trained_encoders.image_encoder_beside(model, generator, damsm)
        captions = _captions(config, dataset)
        examples = captions[:NUM_EXAMPLES]
        drawn = draw_examples(model, packed_in, examples, config.seed)
        about = {"examples": examples, "drawn": drawn, "dataset": dataset, "card": config.card}
        provenance = write_bundle(generator, packed_in, metrics, **about)
        fingerprint = artifacts.check(packed_in, "bundle")["fingerprint"]
        draw = Gallery(
            model,
            image_encoder,
            config.samples,
            seed=config.seed,
            folder=shown_in,
            bundle=fingerprint,
            colours=_colours(dataset),
        )
        shown = _drawn(draw, captions)
        resolutions = model.generator.resolutions
        page = report.render("gallery.html.j2", resolutions=resolutions, is_ranked=image_encoder is not None, **shown)
        artifacts.write_text(shown_in / "index.html", page)
        artifacts.finish(shown_in, "gallery", [*draw.files, "index.html"], captions=captions, bundle=fingerprint)
    _track(config, page, bundle, generator=provenance["generator"], bundle=fingerprint)
    say(f"gallery: {len(captions)} captions, {len(draw.files)} pictures")
    return provenance


def _track(config: Config, page: str, folder: Path, **facts: str) -> None:
    """Send the gallery's page, the bundle's folder and fingerprints to the trackers that there are."""
    with trackers.opened("samples", config, trackers.absolute(folder)) as tracked:
        tracked.file("gallery.html", page.encode())
        tracked.file("bundle", folder)
        tracked.facts(**facts)


def _drawn(draw: Gallery, captions: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Draw all captions, some with their colour exchanged, and the way between some; return it for the page."""
    swaps = captions[: draw.settings.num_swaps]
    pairs = list(zip(captions, captions[1:], strict=False))[: draw.settings.num_interpolations]
    entries, swapped, between = [], [], []
    with progress("gallery", total=len(captions) + len(swaps) + len(pairs), unit="captions") as advance:
        for number, caption in enumerate(captions):
            for note in draw.model.notes(caption):
                say(f"{caption!r}: {note}")
            entries.append(draw.caption(caption, f"{number:03d}"))
            advance(1)
        for number, caption in enumerate(swaps):
            swapped.append(draw.swap(caption, f"{number:03d}"))
            advance(1)
        for number, pair in enumerate(pairs):
            between.append(draw.between(pair, f"{number:03d}"))
            advance(1)
    return {"entries": entries, "swaps": [each for each in swapped if each], "between": between}


def _colours(dataset: Path | None) -> dict[str, set[str]] | None:
    """Return which colours the training captions know of what."""
    if dataset is None:
        return None
    records = Dataset.open(dataset, "train").records
    return colours_before(words_of(caption) for record in records for caption in record["captions"])


def _captions(config: Config, dataset: Path | None) -> list[str]:
    settings = config.samples
    captions = list(settings.captions)
    if dataset is not None and settings.num_test_captions:
        records = Dataset.open(dataset, "test").records
        captions += [records[index]["captions"][0] for index in spread(len(records), settings.num_test_captions)]
    if not captions:
        raise InputError(
            "samples.captions is empty: give captions there, or a --dataset with samples.num_test_captions."
        )
    return captions
