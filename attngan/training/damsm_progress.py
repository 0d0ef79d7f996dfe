"""Watching the encoders train: curves, and for some held-out pictures the captions they find and where words look."""

from pathlib import Path

import torch
from torch import Tensor

from attngan.data.dataset import Batch, Dataset
from attngan.data.sampling import spread
from attngan.losses.damsm import DAMSM_LOSSES
from attngan.metrics.retrieval import cosines
from attngan.models.attention import attend_regions
from attngan.pages import curves, pictures, report
from attngan.pages.pictures import attention_overlays
from attngan.storage import artifacts
from attngan.training.damsm_run import DamsmRun
from attngan.training.pace import Pace, Timer
from attngan.training.run_log import RunLog
from attngan.training.states import StateStore

PAGE = "progress.html"
PICTURES, POOL = 6, 100  # shown, and whose captions they choose among
FOUND = 3  # captions shown of each
WORDS = 5
MIN_SIDE = 128  # pixels: smaller pictures are enlarged to it
EVERY_SECONDS = 10.0  # at most so often
PANELS = {
    "Losses": DAMSM_LOSSES,
    "Pictures that find their caption": {"recall_at_1": "as the best", "recall_at_5": "among the five best"},
    "Learning rate": {"learning_rate": "rate"},
}


class DamsmProgress:
    """Writes `progress.html` of a folder.

    Args:
        run: the run to watch.
        test: gives pictures and captions.
        out: the folder.
        log: has the figures so far.
    """

    def __init__(self, run: DamsmRun, test: Dataset, out: Path, log: RunLog):
        self.run, self.out, self.log, self.vocabulary = run, out, log, test.vocabulary
        self.timer, self.drawn_step = Timer(EVERY_SECONDS), -1
        data = run.config.data
        self.pace = Pace.of(run)
        chosen = spread(len(test), POOL)
        self.captions = [test.records[index]["captions"][0] for index in chosen]
        self.shown = spread(len(chosen), PICTURES)
        self.batch: Batch = test.evaluation_batch(
            chosen, [0] * len(chosen), resolutions=[data.resolution], max_words=data.max_words
        )

    def draw(self, store: StateStore, *, last: bool = False) -> None:
        """Write the page, if it is not too soon after the one before, and copy it to where the states are."""
        run = self.run
        self.pace.move(run.step)
        if not last and not self.timer.take_turn():
            return
        page = report.render(
            "damsm_progress.html.j2",
            step=run.step,
            total=self.pace.total,
            pace=self.pace.text(),
            best=run.best,
            events=run.events,
            plots=curves.plots(self.log.rows, PANELS),
            pool=len(self.captions),
            rows=self._rows(),
        )
        artifacts.write_text(self.out / PAGE, page)
        self.log.page(self.out / PAGE)
        store.show([self.out / PAGE], self.out)

    @torch.no_grad()
    def _rows(self) -> list[dict[str, object]]:
        """Return each shown picture, the captions it finds with their cosines, and where words of its own look."""
        run, batch = self.run, self.batch.to(self.run.device)
        run.text_encoder.eval()
        run.image_encoder.eval()
        regions, image_feature = run.image_encoder(batch.images[-1][self.shown])
        words, sentence = run.text_encoder(batch.word_ids, batch.lengths)
        scores = cosines(image_feature, sentence).cpu()
        side = max(MIN_SIDE, run.config.data.resolution)
        rows = []
        for row, number in enumerate(self.shown):
            picture = pictures.to_pictures(batch.images[-1][number][None], side=side)[0]
            best = scores[row].topk(min(FOUND, len(self.captions))).indices.tolist()
            own = self.vocabulary.decode(batch.word_ids[number][: int(batch.lengths[number])].tolist())
            attention = _attention(regions[row], words[number, :, : len(own)], gamma1=run.config.damsm.gamma1)
            rows.append(
                {
                    "caption": self.captions[number],
                    "png": report.embedded(picture),
                    "found": [
                        {
                            "text": self.captions[index],
                            "score": scores[row, index].item(),
                            "right": self.captions[index] == self.captions[number],
                        }
                        for index in best
                    ],
                    "attention": [
                        {"word": word, "png": report.embedded(overlay)}
                        for word, overlay in attention_overlays(attention, own, picture, WORDS)
                    ],
                }
            )
        return rows


def _attention(regions: Tensor, words: Tensor, *, gamma1: float) -> Tensor:
    """Return how the words (D, T) of a caption share out the regions (D, H, W) of its picture, (T, H, W)."""
    is_padding = torch.zeros(1, words.shape[1], dtype=torch.bool, device=words.device)
    attention = attend_regions(regions.flatten(1)[None], words[None], is_padding, gamma1=gamma1)[1][0, 0]
    return (attention / attention.sum(dim=0)).unflatten(1, regions.shape[1:])
