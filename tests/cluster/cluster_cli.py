"""The commands for a cluster, run in this process against a server of it."""

import dataclasses

from typer.testing import CliRunner

import pipeline

RUNNER = CliRunner()
WORK = ["--source", "gs://birds/cub.tgz", "--model-uri", "gs://birds/models", "--pipeline-root", "gs://birds/runs/"]
WORK += ["--image", "registry.test/attngan:1a2b3c"]
ENVIRONMENT = dict.fromkeys(
    ["KFP_TOKEN", "KFP_COOKIE", "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT", "KF_PIPELINES_SA_TOKEN_PATH"]
)


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status and what it printed."""

    status: int
    out: str
    err: str


def run(*arguments: str, **environment: str) -> Ended:
    """Run `pipeline.py` with these arguments; a bug raises."""
    result = RUNNER.invoke(pipeline.app, arguments, env=ENVIRONMENT | environment)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ended(result.exit_code, result.stdout, result.stderr)
