"""Watching a generator train: fixed captions and noise, drawn again and again into grids and a progress page."""

from pathlib import Path

import torch
from PIL import Image

from attngan import seeding
from attngan.data.dataset import Dataset
from attngan.data.sampling import spread
from attngan.losses.damsm import DAMSM_LOSSES
from attngan.metrics import names
from attngan.models.generator import Generated
from attngan.pages import curves, pictures, report
from attngan.pages.pictures import attention_overlays
from attngan.storage import artifacts
from attngan.training.gan_run import OPINIONS, GanRun
from attngan.training.pace import Pace
from attngan.training.run_log import RunLog
from attngan.training.states import StateStore
from attngan.training.watchdog import opinion

CAPTIONS, VARIANTS = 6, 4
MIN_SIDE = 96  # pixels: smaller pictures are enlarged to it
PANELS = {
    "Adversarial losses": {
        "discriminator": "discriminators",
        "projected": "projected discriminator",
        "adversarial": "generator",
    },
    "Losses of matching (DAMSM)": DAMSM_LOSSES,
    "Loss of the conditioning (KL)": {"kl": "KL"},
}
HISTORY = 12  # earlier snapshots on the page
FILM, FRAMES = "film.webp", 60  # at most
PAGE = "progress.html"
MAX_EVENTS = 10  # on the page, the last ones
SHOWN_METRICS = ("kid_", "r_precision", "variety")  # what their names begin with
SHOWN_WORDS = 4  # whose attention is shown

Stages = list[list[list[Image.Image]]]  # of each resolution, of each caption, the variants


class Snapshots:
    """Draws with the averaged generator into `samples/step-N.png`, `progress.html` and `film.webp` of a folder.

    Args:
        run: the run to watch.
        test: gives the captions, spread over its pictures.
        out: the generator's folder.
        store: holds the grids of the run so far, where it goes on from there.
        log: has the figures so far, and gets the grids for TensorBoard.
        num_candidates: captions that R-precision chooses among.
    """

    def __init__(
        self,
        run: GanRun,
        test: Dataset,
        out: Path,
        store: StateStore,
        log: RunLog,
        *,
        num_candidates: int,
    ):
        self.run, self.out, self.log, self.num_candidates = run, out, log, num_candidates
        self.pace = Pace.of(run)
        self.vocabulary = test.vocabulary
        self._now: tuple[Generated, Stages] | None = None  # what was drawn last
        (out / "samples").mkdir(exist_ok=True)
        for name in store.shown("samples/"):
            if _step(Path(name)) <= run.step:
                store.fetch(name, out)
        self._log_grids(self._grids())
        chosen = spread(len(test), CAPTIONS)
        self.captions = [test.records[index]["captions"][0] for index in chosen]
        images = [index for index in chosen for _ in range(VARIANTS)]
        self.word_ids, self.lengths = test.captions(images, [0] * len(images), max_words=run.config.data.max_words)
        rng = seeding.rng_for(run.config.seed, "snapshot")
        self.noise = torch.randn(len(images), run.generator.noise_dim, generator=rng)
        self.epsilon = torch.randn(len(images), run.generator.condition_dim, generator=rng)

    def draw(self) -> None:
        """Draw the fixed captions as the averaged generator sees them now."""
        self.pace.move(self.run.step)
        drawn = self._drawn()
        side = max(MIN_SIDE, self.run.config.data.resolution)
        stages = [_in_rows(pictures.to_pictures(images, side=side)) for images in drawn.images]
        path = self.out / "samples" / f"step-{self.run.step:07d}.png"
        pictures.save(pictures.grid(stages[-1]), path)
        self._log_grids([path])
        self._now = drawn, stages
        self._write_page(drawn, stages)

    def show(self, store: StateStore) -> None:
        """Copy page and last grid to where the states are: watched there, and taken up by the run that goes on."""
        store.show([*self._grids()[-1:], self.out / PAGE], self.out)

    def forget_after(self, step: int) -> None:
        """Remove grids from after a step, to which the run went back."""
        self.pace.move(step)
        for path in self._grids():
            if _step(path) > step:
                path.unlink()
        self._log_grids(self._grids())  # the log began anew

    def finish(self) -> list[str]:
        """Make a film of all grids, put it on the page, and return the names of all files, relative to the folder."""
        if self._now is None or _step(self._grids()[-1]) < self.run.step:
            self.draw()  # the run was over when it was taken up again
        assert self._now is not None
        grids = self._grids()
        shown = _spread(grids, FRAMES)
        pictures.save_film(shown, [f"step {_step(path):,}" for path in shown], self.out / FILM)
        self._write_page(*self._now, film=(self.out / FILM).read_bytes())
        return [PAGE, FILM, *(f"samples/{path.name}" for path in grids)]

    def _grids(self) -> list[Path]:
        return sorted((self.out / "samples").glob("step-*.png"))

    def _log_grids(self, paths: list[Path]) -> None:
        for path in paths:
            with Image.open(path) as grid:
                grid.thumbnail((pictures.FILM_SIDE, pictures.FILM_SIDE))
                self.log.picture(_step(path), "samples", grid)

    def _write_page(self, drawn: Generated, stages: Stages, *, film: bytes = b"") -> None:
        run, rows = self.run, self.log.rows
        panels = {
            **PANELS,
            **{
                f"How real pictures of {resolution} pixels look to their discriminator": {
                    opinion(kind, resolution): kind for kind in OPINIONS
                }
                for resolution in run.config.resolutions
            },
            **{self._title(name): {name: name} for name in rows[-1] if name.startswith(SHOWN_METRICS)},
        }
        page = report.render(
            "progress.html.j2",
            step=run.step,
            total=self.pace.total,
            pace=self.pace.text(),
            best={
                self._title(name): names.text_of(name, value)
                for name, value in run.best.items()
                if name.startswith(SHOWN_METRICS)
            },
            best_step=run.best.get("step"),
            result=run.config.watch.result,
            events=run.events[-MAX_EVENTS:],
            plots=curves.plots(rows, panels),
            film=report.data_uri(film, "webp") if film else "",
            captions=self.captions,
            resolutions=run.config.resolutions,
            rows=[
                {
                    "caption": caption,
                    "pngs": [report.embedded(pictures.grid([stage[number]])) for stage in stages],
                    "attention": self._attention(drawn, number, stages[-1][number][0]),
                }
                for number, caption in enumerate(self.captions)
            ],
            history=self._history(stages[-1][0][0].width),
        )
        artifacts.write_text(self.out / PAGE, page)
        self.log.page(self.out / PAGE)

    @torch.no_grad()
    def _drawn(self) -> Generated:
        device = self.run.device
        word_ids = self.word_ids.to(device)
        word_features, sentence_feature = self.run.text_encoder(word_ids, self.lengths)
        return self.run.generator_ema(
            self.noise.to(device), sentence_feature, word_features, word_ids == 0, epsilon=self.epsilon.to(device)
        )

    def _title(self, name: str) -> str:
        """Return how a figure is called on the page, with what it depends on."""
        title = names.words_of(name).title
        return f"{title} among {self.num_candidates} captions" if name == "r_precision" else title

    def _attention(self, drawn: Generated, caption: int, picture: Image.Image) -> list[dict[str, str]]:
        """Return where the last stage looks at the words of a caption, in its first picture."""
        if not drawn.attention:
            return []
        row, length = caption * VARIANTS, int(self.lengths[caption * VARIANTS])
        words = self.vocabulary.decode(self.word_ids[row, :length].tolist())
        overlays = attention_overlays(drawn.attention[-1][row, :length], words, picture, SHOWN_WORDS)
        return [{"word": word, "png": report.embedded(overlay)} for word, overlay in overlays]

    def _history(self, width: int) -> list[dict[str, str | int]]:
        """Return the first column of earlier grids, spread over the run so far."""
        history: list[dict[str, str | int]] = []
        for path in _spread(self._grids(), HISTORY):
            with Image.open(path) as grid:
                column = grid.crop((0, 0, width, grid.height))
            history.append({"step": _step(path), "png": report.embedded(column)})
        return history


def _in_rows(drawn: list[Image.Image]) -> list[list[Image.Image]]:
    """Return the pictures of each caption."""
    return [drawn[start : start + VARIANTS] for start in range(0, len(drawn), VARIANTS)]


def _step(path: Path) -> int:
    """Return after how many steps a grid was drawn."""
    return int(path.stem.removeprefix("step-"))


def _spread(paths: list[Path], count: int) -> list[Path]:
    """Return at most `count` of the paths, the first and the last among them."""
    count = min(count, len(paths))
    return [paths[index * (len(paths) - 1) // max(count - 1, 1)] for index in range(count)]
