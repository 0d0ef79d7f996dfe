"""The bundle: one folder that needs nothing beside it to draw pictures, and says where it comes from."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attngan.errors import InputError
from attngan.inference.text_to_image import MODEL_FILES
from attngan.storage import artifacts, json_text


def find_bundle(folder: Path) -> Path:
    """Return the bundle: the folder itself, or the `bundle` in it, as in a run's or an import's."""
    return folder / "bundle" if (folder / "bundle").is_dir() else folder


def examples(bundle: Path) -> list[str]:
    """Return captions to try a bundle with; older bundles have none."""
    provenance = json_text.read(bundle / "provenance.json", dict[str, Any], expected="a JSON object")
    found = provenance.get("examples")
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def write_bundle(
    generator: Path, bundle: Path, metrics: Path | None, *, examples: Sequence[str] = ()
) -> dict[str, Any]:
    """Copy a generator's model files into a bundle, and write down where they come from.

    Args:
        generator: folder of `train_generator` or `import-released`.
        bundle: gets the files; it is there.
        metrics: folder of `evaluate` on this generator, or None.
        examples: captions to try it with.

    Returns:
        The provenance: what `provenance.json` holds.
    """
    source = artifacts.check(generator, "generator")
    provenance: dict[str, Any] = {
        "revision": source["revision"],
        "generator": source["fingerprint"],
        **{name: source.get(name) for name in ("damsm", "dataset", "steps", "imported", "start_from")},
        "metrics": None,
        "examples": list(examples),
    }
    if metrics is not None:
        measured = artifacts.check(metrics, "metrics", contents=True)
        if measured["generator"] != source["fingerprint"]:
            raise InputError(
                f"{metrics}: these are the metrics of another generator than {generator}; evaluate this one."
            )
        provenance["metrics"] = measured["figures"]
    for name in MODEL_FILES:
        shutil.copyfile(generator / name, bundle / name)
    artifacts.write_json(bundle / "provenance.json", provenance)
    facts = {name: provenance[name] for name in ("generator", "dataset")}
    artifacts.finish(bundle, "bundle", [*MODEL_FILES, "provenance.json"], **facts)
    return provenance
