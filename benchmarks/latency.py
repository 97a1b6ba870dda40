"""How long does a head take for one prediction? Every head, one window, host memory to host memory.

    python benchmarks/latency.py [--record] [--calls N] [--threads N] [--seconds N] [--share S]

Untrained weights, since a head's time does not depend on them; windows of EPIC-KITCHENS-55 (10
frames, 1,024 wide, 2,513 classes); the default precision of the machine. AVT-h stands there twice:
as published for EPIC-KITCHENS-55 and for EGTEA Gaze+. What a backbone takes to make the features
comes on top. These are the figures that `antcache student stream` measures for a trained run.

And from frame to answer, as `antcache watch` has it: with decoder and backbone, while a film plays
at its own speed (`latency_live.py`), without and with a teacher that listens, on all the threads
that PyTorch takes by itself.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from latency_live import live_figures, published
from record import Figure, finish

from antcache.devices import pick_device
from antcache.evaluation.online import measure_latency
from antcache.student.config import StudentConfig
from antcache.student.heads.head import ModelShape
from antcache.student.heads.table import HEADS
from antcache.student.model import Predictor, build_student

SIZES = ModelShape(dims=(1024,), num_classes=2513, num_frames=10)


def students(share: float) -> dict[str, StudentConfig]:
    """What is timed, by name; published ones with a share of their width."""
    found = {name: StudentConfig.of(head=name) for name in HEADS if name != "avth"}
    presets = {f"avth, {name}": published(name, share) for name in ("egtea-tsn", "ek55-tsn")}
    return {**found, **presets}


def milliseconds(config: StudentConfig, device: torch.device, calls: int) -> tuple[float, float]:
    """Median and 95th percentile of a prediction."""
    predictor = Predictor(build_student(config, SIZES), config.runtime.precision, device)
    window = predictor.one_window(SIZES)
    found = measure_latency(window, warm_up=min(10, calls), calls=calls)
    return 1000 * found.median_s, 1000 * found.p95_s


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--calls", type=int, default=100, help="timed predictions of each head")
    parser.add_argument("--threads", type=int, default=1, help="torch threads on a CPU")
    parser.add_argument("--seconds", type=float, default=30.0, help="of the film, played each time")
    parser.add_argument("--share", type=float, default=1.0, help="of AVT-h's and the ViT's widths")
    arguments = parser.parse_args()
    usual = torch.get_num_threads()
    torch.set_num_threads(arguments.threads)
    device = pick_device("auto")
    figures = []
    for name, config in students(arguments.share).items():
        median, p95 = milliseconds(config, device, arguments.calls)
        print(f"{name:20}{median:10.2f} ms{p95:10.2f} ms (95th percentile)", flush=True)
        for figure, value in ((name, median), (f"{name}, 95th percentile", p95)):
            figures.append(
                Figure(figure=figure, value=round(value, 3), unit="ms", n=arguments.calls)
            )
    torch.set_num_threads(usual)
    with tempfile.TemporaryDirectory() as folder:
        figures += live_figures(Path(folder), arguments.seconds, arguments.share)
    finish("latency", figures, record=arguments.record)


if __name__ == "__main__":
    main()
