"""`python -m benchmarks.scaling`: how the adversarial training step scales over the devices of one machine.

Measured: steps of 1, 2, 4, 8 processes with the same batch each; batches are not read. Modelled, and kept apart: the
same from what one process computes and would send, over any link.
"""

import contextlib
import functools
import io
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from attngan.runtime import acceleration, exit_status, machine
from benchmarks import measure
from benchmarks.command_line import check_out, write_figures
from benchmarks.scaling.model import BACKWARD_END, BUCKET, Link, Message, waits
from benchmarks.scaling.processes import COUNTS, measured
from benchmarks.scene import Scene, make_photographs, recipe

NUM_PHOTOGRAPHS = 20  # made beyond those of two batches, so that some are left to test


def measured_row(count: int, found: dict[int, list], batch: int) -> dict[str, Any]:
    """Return the row of a count: median seconds of a step, images/s, efficiency by round against one process."""
    rounds = {each: [statistics.median(one["seconds"]) for one in found[each]] for each in (1, count)}
    shares = sorted(alone / together for alone, together in zip(rounds[1], rounds[count], strict=True))
    seconds = statistics.median(second for one in found[count] for second in one["seconds"])
    row = {"processes": count, "seconds": seconds, "images_per_second": count * batch / seconds}
    return row | {"efficiency": statistics.median(shares), "efficiency_range": [shares[0], shares[-1]]}


def modelled_row(count: int, alone: dict[str, Any], link: Link) -> dict[str, Any]:
    """Return what one process's step lets expect of `count`: seconds, what of them is waiting, efficiency."""
    found = waits([Message(*each) for each in alone["messages"]], count, link)
    more = alone["whole batch"][COUNTS.index(count)] - alone["whole batch"][0]
    found["losses of the whole batch"] = more if count > 1 else 0.0
    seconds = alone["end"] + sum(found.values())
    return {"processes": count, "seconds": seconds, "efficiency": alone["end"] / seconds, "waits": found}


def main(
    resolution: Annotated[int, typer.Option(help="64, 128 or 256 pixels; 0: 256, or 64 when quick.")] = 0,
    batch: Annotated[int, typer.Option(help="Of each process. 0: 10 on a CPU, 64 on CUDA; 4 when quick.")] = 0,
    steps: Annotated[int, typer.Option(help="Timed ones of each start; 0: 8, or 4 when quick.")] = 0,
    rounds: Annotated[int, typer.Option(min=1, help="Starts of each number of processes.")] = 3,
    most: Annotated[int, typer.Option(min=0, help="Processes; 0: one for each CUDA device, or CPU core.")] = 0,
    device: Annotated[str, typer.Option(help="As in the config.")] = "auto",
    bandwidth: Annotated[float | None, typer.Option(help="GB/s of the modelled link; measured if not given.")] = None,
    latency: Annotated[float | None, typer.Option(help="Microseconds of it; measured if not given.")] = None,
    quick: Annotated[bool, typer.Option(help="Small pictures and batches: a few minutes on a CPU.")] = False,
    out: Annotated[Path, typer.Option(help="Gets the figures as JSON.")] = Path("build/scaling.json"),
) -> None:
    """Measure how steps of the adversarial training scale here, and model how they would elsewhere."""
    check_out(out)
    resolution = resolution or (64 if quick else 256)
    found_device = acceleration.set_up_device(recipe(resolution, 2, 2, device))
    is_cuda = found_device.type == "cuda"
    batch = batch or (4 if quick else 64 if is_cuda else 10)
    if batch < 2:
        raise typer.BadParameter("--batch: batch norm takes two pictures or more.")
    config = recipe(resolution, 2, batch, device).model_copy(update={"num_threads": 0 if is_cuda else 1})
    there = (1 if ":" in device else torch.cuda.device_count()) if is_cuda else machine.num_cores()
    counts = [count for count in COUNTS if count <= min(there, most or there)]
    with tempfile.TemporaryDirectory(prefix="attngan-scaling-") as scratch:
        folder = Path(scratch) / "scene"
        with contextlib.redirect_stdout(io.StringIO()):
            num_photographs = NUM_PHOTOGRAPHS + 2 * counts[-1] * batch
            Scene(folder, config, found_device, functools.partial(make_photographs, count=num_photographs))
        found = measured(counts, rounds, steps or (4 if quick else 8), folder, config)
    alone = sorted(found[1], key=lambda each: each["end"])[rounds // 2]
    report = {
        **measure.conditions(found_device, "benchmarks.scaling"),
        "threads": torch.get_num_threads() if is_cuda else 1,
        "settings": config.model_dump(mode="json"),
        "measured": [measured_row(count, found, batch) for count in counts],
        "model": _modelled(alone, _link(found[counts[-1]], bandwidth, latency), config.resolutions),
    }
    _print(report, batch)
    write_figures(out, report)
    print(f"figures in {out}")


def _link(found: list[dict[str, Any]], bandwidth: float | None, latency: float | None) -> Link | None:
    """Return the link as given, the rest of it as measured; None where it is neither."""
    links = [Link(*each["link"]) for each in found if "link" in each]
    if not links and None in (bandwidth, latency):
        return None
    given = (None if bandwidth is None else bandwidth * 1e9, None if latency is None else latency / 1e6)
    middle = [statistics.median(each) for each in zip(*links, strict=True)] if links else given
    return Link(*(of_links if own is None else own for own, of_links in zip(given, middle, strict=True)))


def _modelled(alone: dict[str, Any], link: Link | None, resolutions: Sequence[int]) -> dict[str, Any]:
    """Return what the model takes and gives; rows are none where there is no link."""
    messages = [Message(*each) for each in alone["messages"]]
    kinds = {kind: [each.num_bytes for each in messages if each.kind == kind] for _, _, kind in messages}
    ends = [number for number, each in enumerate(messages) if each.kind == BACKWARD_END]
    updates, first, start = {}, 0, 0.0
    for name, end in zip([*(f"discriminator {side}" for side in resolutions), "generator"], ends, strict=True):
        buckets = [each.num_bytes for each in messages[first:end] if each.kind == BUCKET]
        updates[name] = {"seconds": messages[end].when - start, "buckets": buckets}
        first, start = end, messages[end].when
    return {
        "link": link and link._asdict(),
        "seconds_alone": alone["end"],
        "to_the_end_of_each_backward": updates,  # the first holds the generator's forward
        "seconds_of_losses_of_the_whole_batch": dict(zip(COUNTS, alone["whole batch"], strict=True)),
        "messages": {kind: {"count": len(each), "bytes": sum(each)} for kind, each in kinds.items()},
        "rows": [modelled_row(count, alone, link) for count in COUNTS[1:]] if link else [],
    }


def _print(report: dict[str, Any], batch: int) -> None:
    versions = f"torch {report['torch']}, attngan {report['attngan']}"
    print(f"{report['name']}, {report['cores']} cores, {versions}, {batch} pictures a process")
    print(f"MEASURED\n{'processes':>9} {'ms a step':>10} {'images/s':>9} {'efficiency':>10}  of the rounds")
    for row in report["measured"]:
        spread = "{:.3f} to {:.3f}".format(*row["efficiency_range"])
        figures = f"{1000 * row['seconds']:10.1f} {row['images_per_second']:9.2f} {row['efficiency']:10.3f}"
        print(f"{row['processes']:9} {figures}  {spread}")
    model, link = report["model"], report["model"]["link"]
    if link is None:
        print("MODEL: nothing to measure a link between; give --bandwidth and --latency")
        return
    print(
        f"MODEL, from one process's step: {link['bandwidth'] / 1e9:.3g} GB/s, {1e6 * link['latency']:.3g} us a message"
    )
    print(f"{'processes':>9} {'ms a step':>10} {'efficiency':>10} {'measured':>9}  ms that a step is longer by")
    measured_ones = {row["processes"]: f"{row['efficiency']:.3f}" for row in report["measured"]}
    for row in model["rows"]:
        parts = ", ".join(f"{kind} {1000 * seconds:.1f}" for kind, seconds in row["waits"].items())
        figures = (
            f"{1000 * row['seconds']:10.1f} {row['efficiency']:10.3f} {measured_ones.get(row['processes'], ''):>9}"
        )
        print(f"{row['processes']:9} {figures}  {parts}")


if __name__ == "__main__":
    with exit_status.reported():
        typer.run(main)
