"""What a step of a pipeline hands to Kubeflow beside its folder: a page to look at, and numbers to compare runs by."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def show_page(page: Path, artifact: Any) -> None:
    """Copy an HTML page to where the pipeline's user interface looks for it.

    Args:
        page: in the step's folder.
        artifact: an `Output[HTML]` of the component.
    """
    shutil.copyfile(page, artifact.path)


def log_metrics(values: Mapping[str, float], artifact: Any) -> None:
    """Give numbers to the pipeline's user interface.

    Args:
        values: by name.
        artifact: an `Output[Metrics]` of the component.
    """
    for name, value in values.items():
        artifact.log_metric(name, value)
    Path(artifact.path).write_text(json.dumps(values), encoding="utf-8")  # kfp.local keeps only outputs that exist
