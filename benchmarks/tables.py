"""Writes the tables of measured figures from `benchmarks/results/`, and from nothing else.

The options of a measured teacher are those of the benchmark that measures it.

    python benchmarks/tables.py            # rewrite the tables in README.md and docs/
    python benchmarks/tables.py --check    # exit 1 if they are not what the results say

A table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import re
import sys

from table_records import ROOT
from tables_kernel import (
    install,
    kernel,
    kernel_compile,
    linear,
)
from tables_store import (
    browse,
    decoding,
    extraction,
    goes_on,
    reads,
    safety,
    scale,
    token_reads,
)
from tables_students import (
    ablation,
    demo,
    distillation,
    history,
    latency,
    live,
    salads,
    steps,
    tokens,
    training,
    waiting,
)
from tables_teachers import (
    counting,
    cross_fitting,
    egtea,
    ek100_teachers,
    long_term,
    prompted,
    single_label_teachers,
    teachers,
    transfer,
)

BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


PAGES = (
    "README.md",
    "docs/browse.md",
    "docs/store.md",
    "docs/student.md",
    "docs/kernel.md",
    "docs/teachers.md",
    "docs/distillation.md",
    "docs/real.md",
    "docs/tokens.md",
    "docs/extract.md",
    "docs/watch.md",
    "docs/predict.md",
)


TABLES = {
    "demo": demo,
    "teachers": teachers,
    "egtea": egtea,
    "ek100_teachers": ek100_teachers,
    "single_label_teachers": single_label_teachers,
    "transfer": transfer,
    "counting": counting,
    "prompted": prompted,
    "long_term": long_term,
    "ablation": ablation,
    "cross_fitting": cross_fitting,
    "distillation": distillation,
    "history": history,
    "salads": salads,
    "training": training,
    "waiting": waiting,
    "tokens": tokens,
    "token_reads": token_reads,
    "steps": steps,
    "latency": latency,
    "live": live,
    "decoding": decoding,
    "extraction": extraction,
    "scale": scale,
    "browse": browse,
    "reads": reads,
    "safety": safety,
    "goes_on": goes_on,
    "kernel": kernel,
    "kernel_compile": kernel_compile,
    "linear": linear,
    "install": install,
}


def main() -> None:
    """Rewrite or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    for page in PAGES:
        path = ROOT / page
        old = path.read_text("utf-8")
        new = BLOCK.sub(lambda m: m[1] + TABLES[m[2]]() + m[3], old)
        if not check:
            path.write_text(new, "utf-8")
        elif new != old:
            sys.exit(f"{page}: tables differ from the results; run benchmarks/tables.py")


if __name__ == "__main__":
    main()
