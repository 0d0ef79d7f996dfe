"""Drawing a sentence with a trained bundle."""

from pathlib import Path

from attngan import pictures
from attngan.bundle import find_bundle
from attngan.run_log import progress, say
from attngan.text_to_image import TextToImage


def generate(bundle: Path, caption: str, out: Path, *, num_images: int, seed: int) -> list[Path]:
    """Draw one sentence several times, each time from other noise.

    Args:
        bundle: folder of `export_samples`, or one that holds it as `bundle`, as a run's or an import's does.
        caption: any text of which the model knows a word; the others are named on the console.
        out: folder for the pictures; what is there already stays, but for pictures of the same name.
        num_images: how many.
        seed: the same seed draws the same pictures; picture k is the same for any `num_images`.

    Returns:
        The PNG files: each picture, then a grid of all. Each says in its metadata what drew it, and of what.
    """
    model = TextToImage.open(find_bundle(bundle), kind="bundle")
    for note in model.notes(caption):
        say(note)
    variants = model.variants(caption, num_images, seed)
    out.mkdir(parents=True, exist_ok=True)
    drawn = []
    with progress("drawing", total=num_images, unit="pictures") as advance:
        for generated in variants:
            drawn += pictures.to_pictures(generated.images[-1])
            advance(len(generated.images[-1]))
    paths = [out / f"seed-{seed}-{index:03d}.png" for index in range(num_images)]
    for variant, (path, picture) in enumerate(zip(paths, drawn, strict=True)):
        pictures.save(picture, path, pictures.origin(caption, seed, model.fingerprint, variant=variant))
    columns = min(num_images, 8)
    rows = [drawn[start : start + columns] for start in range(0, num_images, columns)]
    sheet = out / f"seed-{seed}-grid.png"
    pictures.save(pictures.grid(rows), sheet, pictures.origin(caption, seed, model.fingerprint))
    return [*paths, sheet]
