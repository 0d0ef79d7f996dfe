"""A step as a run of Weights & Biases, whose client is told by its own variables where and as whom."""

import importlib.util
import io
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from attngan.config.settings import Config
from attngan.training.tracker_service import File, Row, Service, flat

if TYPE_CHECKING:
    import wandb

PROJECT = "attngan"
INIT_SECONDS = 15.0  # the client's own default waits for 90


def is_installed() -> bool:
    """Return whether wandb is here."""
    return importlib.util.find_spec("wandb") is not None


class WandbRun(Service):
    """A run with an ID of its own, made from the step's key; `WANDB_RUN_ID` is overruled, since steps are many."""

    title = "Weights & Biases"

    def __init__(self, kind: str, key: str, config: Config):
        super().__init__(kind, key, config)
        self.run: wandb.Run | None = None
        self._last, self._sent = -1, set()

    @property
    def place(self) -> str:
        """The server, or that there is none."""
        return "offline" if os.environ.get("WANDB_MODE") == "offline" else os.environ.get("WANDB_BASE_URL", "wandb.ai")

    def connect(self) -> None:
        """Start the client's own process, which finds the run or makes it."""
        if self.run is not None:
            return
        import wandb

        try:
            self.run = wandb.init(
                project=os.environ.get("WANDB_PROJECT") or PROJECT,
                id=self.key,
                name=os.environ.get("WANDB_NAME") or self.kind,
                resume="allow",
                reinit="create_new",
                config=flat(self.config),
                allow_val_change=True,
                settings=wandb.Settings(console="off", silent=True, init_timeout=INIT_SECONDS, disable_git=True),
            )
        except Exception:
            wandb.teardown()  # its process would say from now on that the run is in use
            raise
        self._last = self.run.summary.get(self._step, -1)
        self.run.define_metric(f"{self.kind}/*", step_metric=self._step)

    def missing(self, rows: list[Row]) -> list[Row]:
        """Return the rows after the last one that the run had, but for those sent since."""
        return [row for row in rows if row["step"] > self._last and tuple(row.items()) not in self._sent]

    def send_rows(self, rows: list[Row]) -> None:
        """Hand rows to the client, which keeps them on the disk until they are sent."""
        for row in rows:
            self.run.log({f"{self.kind}/{name}": value for name, value in row.items()})
            self._sent.add(tuple(row.items()))

    def send_file(self, name: str, content: File) -> None:
        """Hand over a folder as an artifact, a picture or a page as media of the run."""
        import wandb
        from PIL import Image

        path = PurePosixPath(name)
        if isinstance(content, Path):
            artifact = wandb.Artifact(path.name, type="model")
            artifact.add_dir(str(content))
            self.run.log_artifact(artifact)
        elif path.suffix == ".html":
            self.run.log({str(path.with_suffix("")): wandb.Html(content.decode(), inject=False)})
        elif path.suffix == ".png":
            self.run.log({str(path.parent): wandb.Image(Image.open(io.BytesIO(content)), caption=path.stem)})

    def send_facts(self, facts: Mapping[str, str]) -> None:
        """Add texts beside the settings."""
        self.run.config.update({f"attngan.{name}": fact for name, fact in facts.items()}, allow_val_change=True)

    def end(self, *, failed: bool) -> None:
        """Let the client send what is left."""
        self.run.finish(exit_code=int(failed))

    @property
    def _step(self) -> str:
        return f"{self.kind}/step"
