"""One KFP component per step, in pipeline order."""

from components.preprocess import preprocess
from components.pretrain_damsm import pretrain_damsm
from components.train_generator import train_generator
from components.evaluate import evaluate
from components.export_samples import export_samples
from components.publish import publish

__all__ = ["preprocess", "pretrain_damsm", "train_generator", "evaluate", "export_samples", "publish"]
