"""`make bench`: every case runs, at the smallest size, and leaves its figures."""

import contextlib
import io
import json
import runpy
import sys
import types

import pytest

from attngan.errors import InputError
from attngan.models import image_encoder
from benchmarks import command_line, data_cases, growth, measure, scene
from benchmarks.measure import Case


def quick(tmp_path, *arguments):
    """Return the flags of a short run with small networks."""
    sizes = ["--resolution", "64", "--damsm-batch", "4", "--gan-batch", "2"]
    return ["--quick", *sizes, "--out", str(tmp_path / "b.json"), *arguments]


def call(module, *arguments):
    """Run a module as `python -m` does, but in this process, which has loaded torch already."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", [module, *arguments])
        status = 0
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as stop:
            status = stop.code or 0
    return types.SimpleNamespace(returncode=status, stdout=out.getvalue(), stderr=err.getvalue())


@pytest.fixture
def little(monkeypatch):
    """Do each work once, with networks of few channels on few pictures, at which Inception looks in a smaller size."""
    compare, recipe = measure.compare, scene.recipe
    monkeypatch.setattr(measure, "compare", lambda case, _, device: compare(case, 1, device))
    monkeypatch.setattr(measure, "SECONDS", 0.0)
    monkeypatch.setattr(growth, "FACTORS", (1, 2))
    monkeypatch.setattr(data_cases, "NUM_PREPROCESSED", 40)
    monkeypatch.setattr(image_encoder, "INCEPTION_SIDE", 107)  # 5 x 5 regions

    changed = {
        "damsm": {"trunk_views": 1},
        "generator": {"channels": 8},
        "discriminator": {"channels": 8},
        "evaluate": {"num_images": 20, "num_pairs": 2, "kid_subsets": 4, "num_resamples": 4},
    }

    def little_recipe(*sizes):
        config = recipe(*sizes)
        sections = {name: getattr(config, name).model_copy(update=settings) for name, settings in changed.items()}
        return config.model_copy(update=sections)

    monkeypatch.setattr(scene, "recipe", little_recipe)


@pytest.mark.slow
@pytest.mark.usefixtures("little")
def test_every_case_gives_a_row(tmp_path):
    done = call("benchmarks", *quick(tmp_path))
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "b.json").read_text())
    cases = [row["case"] for row in report["rows"]]
    assert {"DAMSM step", "word loss", "generator training step", "read training batches", "evaluate"} <= set(cases)
    assert all(row["ours_per_second"] > 0 for row in report["rows"])
    assert [row["images"] for row in report["growth"]] == [80] * 4 + [160] * 4
    assert report["torch"] and report["float32_peak_gflops"] > 0


def test_a_case_that_is_not_there_is_named(tmp_path):
    done = call("benchmarks", *quick(tmp_path, "--only", "gan,speed"))
    assert done.returncode == 2
    assert "speed: expected some of damsm," in done.stderr.replace("│", "").replace("\n", " ")


def test_a_folder_is_no_file_for_figures(tmp_path):
    done = call("benchmarks", *quick(tmp_path, "--only", "toy, loader", "--out", str(tmp_path)))
    assert done.returncode == 2 and "is a folder; expected a file's name" in done.stderr


def test_a_kept_folder_is_for_the_same_arguments(tmp_path):
    command_line.claim(tmp_path / "kept", {"birds": 3})
    command_line.claim(tmp_path / "kept", {"birds": 3})
    with pytest.raises(InputError, match=r"--folder: .*kept was made with {'birds': 3}, now it is {'birds': 4}"):
        command_line.claim(tmp_path / "kept", {"birds": 4})


def test_a_folder_of_somebody_is_not_taken(tmp_path):
    """Birds that were drawn in part are drawn anew: what lies in their place would be lost."""
    (tmp_path / "birds").mkdir()
    with pytest.raises(InputError, match="holds other things, which might be lost"):
        command_line.claim(tmp_path, {"birds": 3})
    assert [each.name for each in tmp_path.iterdir()] == ["birds"]


@pytest.mark.parametrize("command", ["ablation", "retrieval", "sameness", "scaling"])
def test_no_command_begins_with_a_folder_for_its_file(tmp_path, command):
    done = call(f"benchmarks.{command}", "--out", str(tmp_path))
    assert done.returncode == 2 and "is a folder; expected a file's name" in done.stderr


def test_birds_of_a_kept_folder_are_drawn_once_and_whole(tmp_path):
    folder = tmp_path / "birds"
    scene.draw_birds_once(folder, 64)
    (folder / "palette.json").unlink()  # as if it had been killed
    scene.draw_birds_once(folder, 64)
    written = (folder / "palette.json").stat().st_mtime_ns
    scene.draw_birds_once(folder, 64)
    assert (folder / "palette.json").stat().st_mtime_ns == written


def test_ways_to_train_that_are_not_there_are_named(tmp_path):
    done = call("benchmarks.sameness", "--only", "float32, float16", "--folder", str(tmp_path))
    assert done.returncode == 2 and "float16: expected some of float32," in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_plain_is_timed_with_the_memory_of_a_usual_process(monkeypatch):
    told = []

    class Library:
        def mallopt(self, parameter, value):
            told.append((parameter, value))

        def malloc_trim(self, _):
            told.append("trim")

    monkeypatch.setattr(measure.ctypes, "CDLL", lambda _: Library())
    case = Case("step", lambda: None, lambda: None, 1, "images")
    measure.compare(case, 1, measure.torch.device("cpu"))
    settled, kept = [(-3, 2**25), (-1, 2**26)], [(-3, 2**31 - 1), (-1, 2**31 - 1)]
    assert told == ["trim", *settled, "trim", *kept, *settled, *kept, *kept]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--gan-batch", "1"], "training.batch_size: input should be greater than or equal to 2, found 1"),
        (["--resolution", "100"], "--resolution: expected one of 64, 128, 256, found 100"),
        (["--device", "cuda:9"], "device: 'cuda:9' cannot be used here"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(tmp_path, flags, sentence):
    done = call("benchmarks", *quick(tmp_path, *flags))
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr


def test_two_ways_are_timed_in_turns(monkeypatch):
    order, now = [], [0.0]

    def work(name, seconds):
        def does():
            order.append(name)
            now[0] += seconds

        return does

    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(measure, "peak_gflops", lambda device, precision: 8.0)
    case = Case("step", work("plain", 3.0), work("ours", 1.0), 6, "images", flops=4e9)
    row = measure.compare(case, 3, measure.torch.device("cpu"))
    # The first turn warms up; in the others ours gets the memory that it keeps back first, untimed.
    assert order == ["plain", "ours"] + ["plain", "ours", "ours"] * 3
    assert row["peak_gflops"] == 8.0
    assert (row["ratio"], row["plain_per_second"], row["ours_per_second"], row["ours_gflops"]) == (3.0, 2.0, 6.0, 4.0)


@pytest.mark.parametrize(("lasting", "expected"), [([0.2, 0.1, 0.3, 0.5], 0.3), ([0.7], 0.7)])
def test_short_work_is_measured_again_and_again_for_half_a_second(lasting, expected, monkeypatch):
    now, times = [0.0], iter(lasting)

    def work():
        now[0] += next(times)

    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])
    assert measure.mean_seconds(work, measure.torch.device("cpu")) == pytest.approx(expected)
