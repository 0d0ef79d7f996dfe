"""Watching a generator train: fixed captions and noise, drawn again and again into grids and a progress page."""

from pathlib import Path

import torch
from PIL import Image

from attngan import artifacts, pictures, report, seeding
from attngan.data.dataset import Dataset
from attngan.gan_run import GanRun
from attngan.losses.damsm import DAMSM_LOSSES

CAPTIONS, VARIANTS = 6, 4
MIN_SIDE = 96  # pixels: smaller pictures are enlarged to it
PANELS = {
    "adversarial": ("discriminator", "adversarial"),
    "DAMSM": DAMSM_LOSSES,
    "conditioning": ("kl",),
}
HISTORY = 12  # earlier snapshots on the page


class Snapshots:
    """Draws with the averaged generator into `samples/step-N.png` and `progress.html` of a folder.

    Args:
        run: the run to watch.
        test: gives the captions, spread over its pictures.
        out: the generator's folder.
        total: steps of the whole run.
    """

    def __init__(self, run: GanRun, test: Dataset, out: Path, total: int):
        self.run, self.out, self.total = run, out, total
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
        drawn = pictures.to_pictures(self._finest(), side=max(MIN_SIDE, self.run.config.data.resolution))
        grid = [drawn[start : start + VARIANTS] for start in range(0, len(drawn), VARIANTS)]
        pictures.save(pictures.grid(grid), self.out / "samples" / f"step-{self.run.step:07d}.png")
        page = report.render(
            "progress.html.j2",
            step=self.run.step,
            total=self.total,
            curves=report.data_uri(report.curves(rows, PANELS)) if rows else "",
            rows=[
                {"caption": caption, "png": report.data_uri(pictures.to_png(pictures.grid([row])))}
                for caption, row in zip(self.captions, grid, strict=True)
            ],
            history=self._history(drawn[0].width),
        )
        artifacts.write_text(self.out / "progress.html", page)

    def files(self) -> list[str]:
        """Return the names of all files written, relative to the folder."""
        samples = sorted((self.out / "samples").glob("step-*.png"))
        return ["progress.html", *(f"samples/{path.name}" for path in samples)]

    @torch.no_grad()
    def _finest(self) -> torch.Tensor:
        device = self.run.device
        word_ids = self.word_ids.to(device)
        word_features, sentence_feature = self.run.text_encoder(word_ids, self.lengths)
        drawn = self.run.average(
            self.noise.to(device), sentence_feature, word_features, word_ids == 0, epsilon=self.epsilon.to(device)
        )
        return drawn.images[-1]

    def _history(self, width: int) -> list[dict[str, str | int]]:
        """Return the first column of earlier grids, spread over the run so far."""
        paths = sorted((self.out / "samples").glob("step-*.png"))
        count = min(HISTORY, len(paths))
        chosen = [paths[index * (len(paths) - 1) // max(count - 1, 1)] for index in range(count)]
        history: list[dict[str, str | int]] = []
        for path in chosen:
            with Image.open(path) as grid:
                column = grid.crop((0, 0, width, grid.height))
            history.append(
                {"step": int(path.stem.removeprefix("step-")), "png": report.data_uri(pictures.to_png(column))}
            )
        return history
