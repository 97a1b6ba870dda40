"""Is anything lost, half written or mixed, and does the same command go on, after a kill?

    python benchmarks/durability.py [--kills 200] [--cases TEXT] [--seed 0] [--record]

Commands are killed with SIGKILL at random moments, a third anywhere in their run, the others while
they publish something. After each kill what can be seen must be valid and right; then the same
command runs again, and must finish and leave what an undisturbed run leaves, to the bit.

`durability_extract.py`: `antcache extract` into Zarr and HDF5, by one process and by three that
share the work; of three, all are killed, or one, which the others must make up for.
`durability_commands.py`: `annotations import`, new and with `--overwrite`, `teacher train`,
`student train`, `student sweep`; these are killed a quarter as often.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"

import durability_commands as commands
import durability_extract as extraction
import forked
import torch
from durability_runner import KillBench, KilledCommand
from record import Figure, finish

EXTRACTIONS = [(kind, workers) for kind in ("zarr", "hdf5") for workers in (1, 3)]
SHARE = 4
"""How many times more often extractions are killed than each other command."""


def make_cases(folder: Path, bench: KillBench) -> list[KilledCommand]:
    """All commands, with their inputs; written by other processes, which may have threads."""
    for part in (extraction, commands):
        inputs = folder / part.__name__
        bench.wait(bench.fork(lambda part=part, inputs=inputs: part.write_inputs(inputs)), 0)
    torch.set_num_threads(1)
    inputs = folder / extraction.__name__
    extraction.load_backbone(inputs)
    made: list[KilledCommand] = [extraction.Extraction(inputs, *how) for how in EXTRACTIONS]
    inputs = folder / commands.__name__
    for overwrite in (False, True):
        made += [commands.Import(inputs, kind, overwrite=overwrite) for kind in ("zarr", "hdf5")]
    made += [commands.Teach(inputs, kind) for kind in ("count", "sequence")]
    return [*made, commands.StudentTraining(inputs), commands.Sweeping(inputs)]


def figures_of(case: KilledCommand, bench: KillBench, kills: int) -> list[Figure]:
    """Kill the runs of a case, and say what came of it."""
    count = bench.run(case, kills)
    what = "videos listed after a kill, each verified"
    if not isinstance(case, extraction.Extraction):
        what = "things that were whole after a kill, each verified"
    within = sum(number for phase, number in count.landed.items() if phase != case.phases[0])
    within -= count.landed["decoding or embedding"]
    return [
        Figure(figure=f"{name}: {case.name}", value=value, unit="", n=count.kills, **bounds)
        for name, value, bounds in (
            ("kills", count.kills, {"at_least": kills}),
            ("violations", len(count.violations), {"at_most": 0}),
            (what, count.verified, {}),
            ("re-runs that finished", count.finished, {"at_least": kills}),
            ("processes killed while publishing", within, {}),
        )
    ]


def main() -> None:
    """Run, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="per case of extraction")
    parser.add_argument("--cases", default="", help="only those whose names have this text")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--record", action="store_true", help="update the results file")
    args = parser.parse_args()
    forked.preload()
    figures: list[Figure] = []
    columns = ("kills", "violations", "verified", "finished")
    print(f"{'case':28}{columns[0]:>7}{columns[1]:>12}{columns[2]:>10}{columns[3]:>10}", end="")
    print("   run s  each s   landed", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = KillBench(Path(folder), args.seed)
        for case in make_cases(Path(folder), bench):
            kills = args.kills
            if not isinstance(case, extraction.Extraction):
                kills = -(-kills // SHARE)
            if args.cases in case.name:
                figures += figures_of(case, bench, kills)
    finish("durability", figures, record=args.record)


if __name__ == "__main__":
    main()
