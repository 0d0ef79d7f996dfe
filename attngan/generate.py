"""Drawing a sentence with a trained bundle."""

from pathlib import Path

from attngan import artifacts, pictures
from attngan.run_log import progress, say
from attngan.text_to_image import TextToImage

BATCH_SIZE = 16


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
    folder = bundle / "bundle" if (bundle / "bundle").is_dir() else bundle
    model = TextToImage.open(folder, kind="bundle")
    fingerprint = artifacts.check(folder, "bundle")["fingerprint"]
    for note in model.notes(caption):
        say(note)
    word_ids, lengths = model.read([caption])
    noise, epsilon = model.noise(num_images, seed)
    out.mkdir(parents=True, exist_ok=True)
    drawn = []
    with progress("drawing", total=num_images, unit="pictures") as advance:
        for start in range(0, num_images, BATCH_SIZE):
            part = slice(start, start + BATCH_SIZE)
            count = len(noise[part])
            generated = model.draw(word_ids.expand(count, -1), lengths.expand(count), noise[part], epsilon[part])
            drawn += pictures.to_pictures(generated.images[-1])
            advance(count)
    paths = [out / f"seed-{seed}-{index:03d}.png" for index in range(num_images)]
    for variant, (path, picture) in enumerate(zip(paths, drawn, strict=True)):
        pictures.save(picture, path, pictures.origin(caption, seed, fingerprint, variant=variant))
    columns = min(num_images, 8)
    rows = [drawn[start : start + columns] for start in range(0, num_images, columns)]
    sheet = out / f"seed-{seed}-grid.png"
    pictures.save(pictures.grid(rows), sheet, pictures.origin(caption, seed, fingerprint))
    return [*paths, sheet]
