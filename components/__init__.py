"""One KFP component per step, in pipeline order; before them, whether there is anything to train."""

from components.detect_changes import detect_changes
from components.preprocess import preprocess
from components.pretrain_damsm import pretrain_damsm
from components.train_generator import train_generator
from components.evaluate import evaluate
from components.export_samples import export_samples
from components.publish import publish

__all__ = [
    "detect_changes",
    "preprocess",
    "pretrain_damsm",
    "train_generator",
    "evaluate",
    "export_samples",
    "publish",
]
