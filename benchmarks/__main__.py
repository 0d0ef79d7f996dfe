"""`python -m benchmarks`: a table on the console and the same as JSON."""

import contextlib
import functools
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer

from attngan.runtime import acceleration, exit_status
from attngan.storage import artifacts
from benchmarks import growth, measure
from benchmarks.cases import CASES
from benchmarks.command_line import check_out, some_of, write_figures
from benchmarks.measure import Case
from benchmarks.scene import Scene, make_photographs, recipe

NAMES = f"{'':38} {'plain/s':>9} {'ours/s':>9} {'times':>6}  {'spread':14}"
HEADER = f"{NAMES} {'GFLOP/s':>8} {'of peak':>7} {'GiB':>5} {'plain':>5}"
MIN_PHOTOGRAPHS = 80  # a fifth of them for evaluate, which takes no fewer than 16


def main(
    only: Annotated[str, typer.Option(help=f"Some of {', '.join(CASES)}, growth, with commas between.")] = "",
    quick: Annotated[bool, typer.Option(help="Small batches and few rounds: minutes on a CPU.")] = False,
    resolution: Annotated[int, typer.Option(help="64, 128 or 256 pixels.")] = 256,
    damsm_batch: Annotated[int, typer.Option(help="0: 48, or 16 when quick.")] = 0,
    gan_batch: Annotated[int, typer.Option(help="0: 10 on a CPU, 64 on CUDA; 4 when quick.")] = 0,
    device: Annotated[str, typer.Option(help="As in the config.")] = "auto",
    compiled: Annotated[bool, typer.Option(help="Compile the networks of our way.")] = False,
    graph: Annotated[bool, typer.Option(help="Record our step as a CUDA graph.")] = False,
    out: Annotated[Path, typer.Option(help="Gets the figures as JSON, and the table beside it.")] = Path(
        "build/benchmark.json"
    ),
) -> None:
    """Measure each part the plain way and ours, in turns, on the paper's networks with untrained weights."""
    check_out(out)
    chosen = some_of(only, [*CASES, "growth"])
    found = acceleration.set_up_device(recipe(resolution, 2, 2, device))
    gan_size = gan_batch or (4 if quick else 64 if found.type == "cuda" else 10)
    damsm_size = damsm_batch or (16 if quick else 48)
    ways = {"compile": "on" if compiled else "off", "cuda_graph": "on" if graph else "off"}
    config = recipe(resolution, damsm_size, gan_size, device).model_copy(update=ways)
    rounds = 2 if quick else 5
    conditions = measure.conditions(found, "benchmarks") | _peaks(found)
    rows: list[dict[str, object]] = []
    grown: list[dict[str, object]] = []
    table = [" | ".join(f"{name} {value}" for name, value in conditions.items())]
    print(table[0])
    with tempfile.TemporaryDirectory(prefix="attngan-bench-") as folder:
        if set(chosen) & set(CASES):
            count = max(MIN_PHOTOGRAPHS, 2 * config.damsm.batch_size, 2 * gan_size)
            scene = Scene(Path(folder) / "scene", config, found, functools.partial(make_photographs, count=count))
            table.append(HEADER)
            print(HEADER)
            for name in (name for name in chosen if name in CASES):
                for row in _measured(CASES[name](scene), rounds, found):
                    rows.append(row)
                    table.append(_line(rows[-1]))
                    print(table[-1], flush=True)
        if "growth" in chosen:
            for row in growth.grow(Path(folder), MIN_PHOTOGRAPHS if quick else 200, device):
                grown.append(row)
                table.append(_grown_line(row))
                print(table[-1], flush=True)
    report = {**conditions, "settings": config.model_dump(mode="json"), "rows": rows, "growth": grown}
    write_figures(out, report)
    artifacts.write_text(out.with_suffix(".txt"), "\n".join(table) + "\n")
    print(f"figures in {out}, the table in {out.with_suffix('.txt')}")


def _measured(cases: Iterator[Case], rounds: int, device: torch.device) -> Iterator[dict[str, object]]:
    """Give the figures of one case after the other, without what steps say of their progress."""
    while True:
        with contextlib.redirect_stdout(io.StringIO()):
            case = next(cases, None)
            if case is None:
                return
            row = measure.compare(case, rounds, device)
        yield row


def _peaks(device: torch.device) -> dict[str, int]:
    peaks = {"float32_peak_gflops": round(measure.peak_gflops(device, torch.float32))}
    if acceleration.has_bfloat16(device):
        peaks["bfloat16_peak_gflops"] = round(measure.peak_gflops(device, torch.bfloat16))
    return peaks


def _line(row: dict[str, object]) -> str:
    plain = f"{row['plain_per_second']:9.2f}" if "ratio" in row else " " * 9
    ratio = f"{row['ratio']:6.2f}" if "ratio" in row else " " * 6
    spread = f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}" if "ratio" in row else ""
    flops = " " * 16
    if "ours_gflops" in row:
        flops = f"{row['ours_gflops']:8.0f} {row['ours_gflops'] / row['peak_gflops']:7.0%}"
    memory = f"{row['peak_gib']:5.1f}" + (f" {row['plain_peak_gib']:5.1f}" if "ratio" in row else "")
    return f"{row['case']:38} {plain} {row['ours_per_second']:9.2f} {ratio}  {spread:14} {flops} {memory}"


def _grown_line(row: dict[str, object]) -> str:
    more = f"{1000 * row['seconds_more']:7.1f} ms for one more" if "seconds_more" in row else ""
    line = f"{row['what']:28} {row['images']:>6,} images {row['seconds']:7.1f} s {row['peak_gib']:6.2f} GiB {more}"
    return line.rstrip()


if __name__ == "__main__":
    with exit_status.reported():
        typer.run(main)
