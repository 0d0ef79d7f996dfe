"""Watching a generator train: fixed captions and noise, drawn again and again into grids and a progress page."""

import datetime
import time
from pathlib import Path

import torch
from PIL import Image

from attngan import artifacts, pictures, report, seeding
from attngan.data.dataset import Dataset
from attngan.gan_run import GanRun
from attngan.losses.damsm import DAMSM_LOSSES
from attngan.models.generator import Generated
from attngan.overlays import attention_overlays

CAPTIONS, VARIANTS = 6, 4
MIN_SIDE = 96  # pixels: smaller pictures are enlarged to it
PANELS = {
    "adversarial": ("discriminator", "adversarial"),
    "DAMSM": DAMSM_LOSSES,
    "conditioning": ("kl",),
}
HISTORY = 12  # earlier snapshots on the page
FILM, FRAMES = "film.webp", 60  # at most
SHOWN_WORDS = 4  # whose attention is shown


class Snapshots:
    """Draws with the averaged generator into `samples/step-N.png`, `progress.html` and `film.webp` of a folder.

    Args:
        run: the run to watch.
        test: gives the captions, spread over its pictures.
        out: the generator's folder.
        total: steps of the whole run.
    """

    def __init__(self, run: GanRun, test: Dataset, out: Path, total: int):
        self.run, self.out, self.total = run, out, total
        self.first_step, self.started = run.step, time.monotonic()
        self.vocabulary = test.vocabulary
        (out / "samples").mkdir(exist_ok=True)
        count = min(CAPTIONS, len(test))
        chosen = [index * len(test) // count for index in range(count)]
        self.captions = [test.records[index]["captions"][0] for index in chosen]
        images = [index for index in chosen for _ in range(VARIANTS)]
        self.word_ids, self.lengths = test.captions(images, [0] * len(images), max_words=run.config.data.max_words)
        state = seeding.generator_for(run.config.seed, "snapshot")
        self.noise = torch.randn(len(images), run.generator.noise_dim, generator=state)
        self.epsilon = torch.randn(len(images), run.generator.condition_dim, generator=state)

    def draw(self, rows: list[dict[str, float]]) -> None:
        """Draw the fixed captions as the averaged generator sees them now; `rows` are the logged figures so far."""
        drawn = self._drawn()
        side = max(MIN_SIDE, self.run.config.data.resolution)
        stages = [_in_rows(pictures.to_pictures(images, side=side)) for images in drawn.images]
        pictures.save(pictures.grid(stages[-1]), self.out / "samples" / f"step-{self.run.step:07d}.png")
        page = report.render(
            "progress.html.j2",
            step=self.run.step,
            total=self.total,
            pace=self._pace(),
            curves=report.data_uri(report.curves(rows, PANELS)) if rows else "",
            resolutions=self.run.config.resolutions,
            rows=[
                {
                    "caption": caption,
                    "pngs": [report.embedded(pictures.grid([stage[number]])) for stage in stages],
                    "attention": self._attention(drawn, number, stages[-1][number][0]),
                }
                for number, caption in enumerate(self.captions)
            ],
            history=self._history(side),
        )
        artifacts.write_text(self.out / "progress.html", page)

    def finish(self, rows: list[dict[str, float]]) -> list[str]:
        """Draw once more, make a film of all grids, and return the names of all files, relative to the folder."""
        self.draw(rows)
        grids = sorted((self.out / "samples").glob("step-*.png"))
        pictures.save_film(_spread(grids, FRAMES), self.out / FILM)
        return ["progress.html", FILM, *(f"samples/{path.name}" for path in grids)]

    @torch.no_grad()
    def _drawn(self) -> Generated:
        device = self.run.device
        word_ids = self.word_ids.to(device)
        word_features, sentence_feature = self.run.text_encoder(word_ids, self.lengths)
        return self.run.average(
            self.noise.to(device), sentence_feature, word_features, word_ids == 0, epsilon=self.epsilon.to(device)
        )

    def _attention(self, drawn: Generated, caption: int, picture: Image.Image) -> list[dict[str, str]]:
        """Return where the last stage looks at the words of a caption, in its first picture."""
        if not drawn.attention:
            return []
        row, length = caption * VARIANTS, int(self.lengths[caption * VARIANTS])
        words = self.vocabulary.decode(self.word_ids[row, :length].tolist())
        overlays = attention_overlays(drawn.attention[-1][row, :length], words, picture, SHOWN_WORDS)
        return [{"word": word, "png": report.embedded(overlay)} for word, overlay in overlays]

    def _pace(self) -> str:
        """Return images a second, what time is left, and what the run costs, as this process sees it."""
        settings, done = self.run.config.training, self.run.step - self.first_step
        if not done:
            return ""
        seconds = (time.monotonic() - self.started) / done  # a step
        left = datetime.timedelta(seconds=round(seconds * (self.total - self.run.step)))
        pace = f"{settings.batch_size / seconds:,.0f} images/s, {left} left."
        if settings.price_per_hour:
            price = seconds / 3600 * settings.price_per_hour
            pace += f" At {settings.price_per_hour:g} an hour: {price * self.run.step:,.2f} so far, "
            pace += f"{price * self.total:,.2f} in all."
        return pace

    def _history(self, width: int) -> list[dict[str, str | int]]:
        """Return the first column of earlier grids, spread over the run so far."""
        paths = sorted((self.out / "samples").glob("step-*.png"))
        history: list[dict[str, str | int]] = []
        for path in _spread(paths, HISTORY):
            with Image.open(path) as grid:
                column = grid.crop((0, 0, width, grid.height))
            history.append({"step": int(path.stem.removeprefix("step-")), "png": report.embedded(column)})
        return history


def _in_rows(drawn: list[Image.Image]) -> list[list[Image.Image]]:
    """Return the pictures of each caption."""
    return [drawn[start : start + VARIANTS] for start in range(0, len(drawn), VARIANTS)]


def _spread(paths: list[Path], count: int) -> list[Path]:
    """Return at most `count` of the paths, the first and the last among them."""
    count = min(count, len(paths))
    return [paths[index * (len(paths) - 1) // max(count - 1, 1)] for index in range(count)]
