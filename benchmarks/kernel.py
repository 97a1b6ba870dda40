"""How fast is the fused loss, as a share of copy bandwidth and against the others?

    python benchmarks/kernel.py [--quick] [--record] [--shapes 16384x2513,...] [--minutes 8]

Needs only torch and triton (and numba for the CPU's part), also in a checkout that is not
installed. The measuring itself lies in `kernels/benchmark/`, where `antcache bench kernel` finds
it too. A run that breaks a bound exits 1, after it has written.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def make_importable() -> None:
    """Let `antcache` be imported from this checkout if it is not installed."""
    if importlib.util.find_spec("antcache") is None:
        sys.path.append(str(ROOT))


def main() -> None:
    """Run, print, record."""
    make_importable()
    from antcache.devices import let_waiting_threads_sleep

    let_waiting_threads_sleep()  # as the command does
    from antcache.errors import AntcacheError
    from antcache.kernels.benchmark.run import BenchmarkConfig, parse_shapes, run

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu")
    parser.add_argument("--quick", action="store_true", help="a few shapes, fewer repetitions")
    parser.add_argument("--shapes", default="", metavar="BxC,...", help="these shapes alone")
    parser.add_argument("--minutes", type=float, default=8.0, help="begin no case after that")
    parser.add_argument("--record", action="store_true", help="update kernel.csv and kernel.json")
    parser.add_argument("--output", type=Path, metavar="DIR", help="record there instead")
    given = parser.parse_args()
    try:
        config = BenchmarkConfig(
            device=given.device,
            quick=given.quick,
            shapes=parse_shapes(given.shapes) if given.shapes else (),
            minutes=given.minutes,
            record=given.record,
            out=given.output,
        )
        command = " ".join(["python", "benchmarks/kernel.py", *sys.argv[1:]])
        result = run(config, lambda line: print(line, flush=True), command)
    except (AntcacheError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    figures = {figure.figure: round(figure.value, 4) for figure in result.figures}
    summary = {"benchmark": "kernel", "device": result.device, **figures, "broken": result.broken}
    print(json.dumps(summary))
    sys.exit(0 if result.ok else 1)


if __name__ == "__main__":
    main()
