"""All cases by the name that `--only` takes."""

from collections.abc import Callable, Iterator

from benchmarks import data_cases, switch_cases, training_cases
from benchmarks.measure import Case
from benchmarks.scene import Scene

CASES: dict[str, Callable[[Scene], Iterator[Case]]] = {
    "damsm": training_cases.damsm,
    "word_loss": training_cases.word_loss,
    "gan": training_cases.gan,
    "switches": switch_cases.switches,
    "toy": training_cases.toy,
    "loader": data_cases.loader,
    "preprocess": data_cases.preprocessing,
    "sampling": data_cases.sampling,
    "evaluate": data_cases.evaluation,
}
