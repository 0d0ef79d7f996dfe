"""The bundle: one folder that needs nothing beside it to draw pictures, and says where it comes from."""

import functools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attngan.config import settings as configs
from attngan.config.settings import Card, Config
from attngan.data.captions import Vocabulary
from attngan.data.dataset import Info
from attngan.errors import InputError
from attngan.inference.text_to_image import MODEL_FILES, TextToImage
from attngan.pages import model_card, pictures
from attngan.storage import artifacts, json_text

RECIPE = (  # settings that a model card tells
    *("data.resolution", "image_encoder.kind", "damsm.epochs", "damsm.steps", "damsm.batch_size"),
    *("generator.num_stages", "generator.finest_only", "generator.upsampling", "generator.channels"),
    *("discriminator.channels", "discriminator.spectral_norm", "discriminator.unconditional"),
    *("discriminator.translation", "discriminator.projected.weight", "discriminator.projected.every_steps"),
    *("training.epochs", "training.steps", "training.batch_size", "training.generator_learning_rate"),
    *("training.discriminator_learning_rate", "training.damsm_weight", "training.kl_weight", "training.ema_decay"),
    *("watch.metric", "watch.result", "precision", "seed"),
)
SIZES = ("data.resolution", "generator.")


def find_bundle(folder: Path) -> Path:
    """Return the bundle: the folder itself, or the `bundle` in it, as in a run's or an import's."""
    return folder / "bundle" if (folder / "bundle").is_dir() else folder


def examples(bundle: Path) -> list[str]:
    """Return captions to try a bundle with; older bundles have none."""
    provenance = json_text.read(bundle / "provenance.json", dict[str, Any], expected="a JSON object")
    found = provenance.get("examples")
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def draw_examples(model: TextToImage, bundle: Path, captions: Sequence[str], seed: int) -> dict[str, Any]:
    """Draw a picture of each caption into a bundle, that which `attngan generate` draws first; return what they are."""
    files = [f"pictures/{number:02d}.png" for number in range(len(captions))]
    (bundle / "pictures").mkdir()
    for file, caption in zip(files, captions, strict=True):
        drawn = next(model.variants(caption, 1, seed))
        about = {"caption": caption, "seed": seed, "generator": model.fingerprint}
        pictures.save(pictures.to_pictures(drawn.images[-1])[0], bundle / file, about)
    return {"seed": seed, "files": files}


def write_bundle(
    generator: Path,
    bundle: Path,
    metrics: Path | None,
    *,
    examples: Sequence[str] = (),
    drawn: dict[str, Any] | None = None,
    dataset: Path | None = None,
    card: Card | None = None,
) -> dict[str, Any]:
    """Copy a generator's model files into a bundle, and write down where they come from, for machines and for people.

    Args:
        generator: folder of `train_generator` or `import-released`.
        bundle: gets the files; it is there.
        metrics: folder of `evaluate` on this generator, or None.
        examples: captions to try it with.
        drawn: what `draw_examples` returned of them, or None.
        dataset: folder of `preprocess` that the generator is trained on, or None.
        card: name and licence of the data.

    Returns:
        The provenance: what `provenance.json` holds.
    """
    source, config = artifacts.check(generator, "generator"), configs.load_file(generator / "config.yaml")
    provenance: dict[str, Any] = {
        "revision": source["revision"],
        "generator": source["fingerprint"],
        **{name: source.get(name) for name in ("damsm", "dataset", "frozen", "steps", "imported", "start_from")},
        "metrics": None,
        "examples": list(examples),
        "pictures": drawn,
        "words": len(Vocabulary.load(generator / "vocabulary.json")) - 1,  # one is no word
        "data": {**(card or Card()).model_dump(), **_counts(dataset)},
        "training": {name: source.get(name) for name in ("best", "seconds", "device")},
        "recipe": _recipe(config, is_imported=bool(source.get("imported"))),
    }
    if metrics is not None:
        measured = artifacts.check(metrics, "metrics", contents=True)
        if measured["generator"] != source["fingerprint"]:
            raise InputError(
                f"{metrics}: these are the metrics of another generator than {generator}; evaluate this one."
            )
        provenance["metrics"] = measured["figures"]
        provenance["evaluation"] = json_text.read(metrics / "metrics.json", dict[str, Any])
        provenance["evaluation"].pop("figures")
    for name in MODEL_FILES:
        shutil.copyfile(generator / name, bundle / name)
    artifacts.write_json(bundle / "provenance.json", provenance)
    facts = json_text.shaped(provenance, "provenance.json", model_card.Facts)
    artifacts.write_text(bundle / model_card.FILE, model_card.text(facts))
    files = [*MODEL_FILES, "provenance.json", model_card.FILE, *(drawn["files"] if drawn else ())]
    artifacts.finish(bundle, "bundle", files, **{name: provenance[name] for name in ("generator", "dataset")})
    return provenance


def _counts(dataset: Path | None) -> dict[str, Any]:
    """Return what a dataset says of its source and of the numbers of its pictures and captions."""
    if dataset is None:
        return {}
    info = json_text.read(dataset / "dataset.json", Info)
    return {name: info[name] for name in ("source", "counts") if name in info}


def _recipe(config: Config, *, is_imported: bool) -> dict[str, Any]:
    """Return what a model card tells of the settings, by their dotted names; of an import the sizes alone are known."""
    values = {name: functools.reduce(getattr, name.split("."), config) for name in RECIPE}
    if is_imported:
        return {name: value for name, value in values.items() if name.startswith(SIZES)}
    unread = {f"{section}.{'epochs' if values[f'{section}.steps'] else 'steps'}" for section in ("damsm", "training")}
    return {name: value for name, value in values.items() if name not in unread}
