"""Does any damaged or made-up file end a command otherwise than with a result or one line?

    python benchmarks/fuzz.py [--record] [--mutations 200] [--kind WORD] [--seed 0]

Every kind of file that is read (`specimens.py`) is changed in 200 seeded ways: bits and bytes
flipped, numbers set to their limits, pieces cut out, put in, repeated or moved, the front of one
file before the end of another, and words that mean something to the form or to Python. The command
that reads it runs in a process of its own. Counted are tracebacks and crashes, runs of more than
10 s, runs of more than 2 GiB, and errors of more than one line. What failed is printed with its
number, and `--keep DIR` keeps the files.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from forked import Outcome, preload, run
from record import Figure, finish
from specimens import SPECIMENS, Specimen, copy_kitchen, link_kitchen, words

SECONDS = 10.0
BYTES = 2 << 30

TEXT = (
    *(
        b'"',
        b",",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"'",
        b":",
        b"-",
        b"[",
        b"]",
        b"{",
        b"}",
        b"&a ",
        b"*a",
    ),
    *(b"-1", b"0", b"1e999", b"-1e-999", b"nan", b"inf", b"NaN", b"Infinity", b"null", b"true"),
    *(b"9" * 19, b"9" * 400, b"9" * 5000, b"-" + b"9" * 20, b"0x" + b"f" * 40, b"1.5", b"1e9"),
    *(b"[" * 2000, b'{"a":' * 2000, b"- " * 500, b"a" * 100_000, b"<<: *a\n", b"!!python/name:os "),
    *(b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\x1b[31m", b"[/red]", b"\xe2\x80\xae"),
    *(b"../../x", b"/etc/passwd", b"00:00:99.9", b"999999999:00:00", b"2023-99-99"),
)
"""What text is cut with."""
BINARY = (
    *(b"\0" * 8, b"\xff" * 8, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0"),
    *(
        b"\0\0\0\x80",
        b"\1\0\0\0",
        b"\0\0\0\1",
        b"\xff\xff",
        b"\0\x10\0\0\0\0\0\0",
        b"\x80\x80\x80\x80",
    ),
    *(
        b"moov",
        b"mdat",
        b"stsz",
        b"trun",
        b"RIFF",
        b"LIST",
        b"idx1",
        b"\x1a\x45\xdf\xa3",
        b"G@\0\x10",
    ),
    *(b"PK\3\4", b"PK\1\2", b"PK\5\6", b"\x93NUMPY", b"PAR1", b"\x89HDF\r\n", b"OHDR", b"TREE"),
    *(b"\x80\4\x95", b"c", b"(", b".", b"R", b"}", b"\x94", b"\xde\xc0\xef\xbe"),
    *(b"'shape': (9999999999,)", b"'|O'", b'"dtype":"BF16"', b'"data_offsets":[0,9]'),
)
"""What other files are cut with."""


@dataclass
class KindTally:
    """What came of one kind: how many runs, and which of them ended wrongly."""

    runs: int = 0
    refused: int = 0
    wrong: dict[str, list[int]] = field(default_factory=lambda: {what: [] for what in WRONG})


WRONG: dict[str, Callable[[Outcome], bool]] = {
    "tracebacks": lambda outcome: outcome.traceback,
    "hangs": lambda outcome: outcome.hung,
    "over 2 GiB": lambda outcome: outcome.peak_bytes > BYTES,
    "errors of several lines": lambda outcome: outcome.code == 2 and len(outcome.complaints) != 1,
}
"""What must not come of any file."""


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """`data` changed in one to three ways.

    Args:
        data: a whole file.
        other: another one, whose end is put behind the front of `data`.
        rng: decides everything.
    """
    text = b"\0" not in data[:4096]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = _changed(data, other, TEXT if text else BINARY, rng)
    return data


def _changed(data: bytes, other: bytes, tokens: Sequence[bytes], rng: random.Random) -> bytes:
    size = len(data)
    at = rng.randrange(size + 1)
    if rng.random() < 0.3:  # the front says most
        at = rng.randrange(min(size, 200) + 1)
    length = min(size - at, rng.choice((1, 1, 2, 4, 8, 16, 64, 1024)))
    way = rng.choice(("bit", "byte", "token", "insert", "cut", "end", "repeat", "move", "splice"))
    if way == "bit" and length:
        return data[:at] + bytes((data[at] ^ 1 << rng.randrange(8),)) + data[at + 1 :]
    if way == "byte":
        return data[:at] + rng.randbytes(length) + data[at + length :]
    if way == "token":
        token = rng.choice(tokens)
        return data[:at] + token + data[at + len(token) :]
    if way == "insert":
        return data[:at] + rng.choice(tokens) + data[at:]
    if way == "cut":
        return data[:at] + data[at + length :]
    if way == "end":
        return data[:at]
    if way == "repeat":
        return (
            data[: at + length]
            + data[at : at + length] * rng.choice((1, 9, 999))
            + data[at + length :]
        )
    if way == "move":
        to = rng.randrange(size + 1)
        piece, rest = data[at : at + length], data[:at] + data[at + length :]
        return rest[:to] + piece + rest[to:]
    return data[:at] + other[rng.randrange(len(other) + 1) :]


def mutants(specimen: Specimen, whole: Path, count: int, seed: int) -> Iterator[bytes]:
    """`count` mutants of a kind, the same for the same seed, whatever is tried before."""
    data = (whole / specimen.path).read_bytes()
    others = [(whole / other.path).read_bytes() for other in SPECIMENS]
    for number in range(count):
        rng = random.Random(f"{seed}/{specimen.kind}/{number}")
        other = data if rng.random() < 0.5 else rng.choice(others)
        yield mutated(data, other, rng)


def try_kind(
    specimen: Specimen, whole: Path, count: int, seed: int, keep: Path | None
) -> KindTally:
    """Run every command of a kind on every mutant."""
    tally = KindTally()
    for number, data in enumerate(mutants(specimen, whole, count, seed)):
        for command in specimen.commands:
            with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
                folder = link_kitchen(Path(name))
                (folder / specimen.path).unlink()
                (folder / specimen.path).write_bytes(data)
                outcome = run(words(command), folder=folder, timeout_s=SECONDS)
            tally.runs += 1
            tally.refused += outcome.code == 2
            for what, is_so in WRONG.items():
                if not is_so(outcome):
                    continue
                tally.wrong[what].append(number)
                last = outcome.stderr.strip().splitlines()[-1:] or [""]
                print(f"  {specimen.kind} {number}: {what} ({outcome.code}): {last[0][:300]}")
                if keep is not None:
                    kept = keep / f"{specimen.kind.replace(' ', '-')}-{number}"
                    kept.mkdir(parents=True, exist_ok=True)
                    (kept / Path(specimen.path).name).write_bytes(data)
                    (kept / "stderr").write_text(f"{command}\n{outcome.stderr}")
    return tally


def main() -> None:
    """Run, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--mutations", type=int, default=200, help="of each kind")
    parser.add_argument("--kind", default="", help="only kinds with this word")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="where files that failed are kept")
    arguments = parser.parse_args()
    preload()
    chosen = [s for s in SPECIMENS if arguments.kind in s.kind]
    tallies: dict[str, KindTally] = {}
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        whole = copy_kitchen(Path(name))
        for specimen in chosen:
            keep = arguments.keep
            tally = try_kind(specimen, whole, arguments.mutations, arguments.seed, keep)
            tallies[specimen.kind] = tally
            found = ", ".join(f"{len(numbers)} {what}" for what, numbers in tally.wrong.items())
            print(
                f"{specimen.kind}: {tally.runs} runs, {tally.refused} refused; {found}", flush=True
            )
    total = sum(tally.runs for tally in tallies.values())
    figures = [
        Figure(
            figure="kinds of files", value=len(tallies), unit="kinds", at_least=20, n=len(tallies)
        ),
        Figure(
            figure="mutations of each kind",
            value=arguments.mutations,
            unit="files",
            at_least=200,
            n=len(tallies),
        ),
        *(
            Figure(
                figure=what,
                value=sum(len(tally.wrong[what]) for tally in tallies.values()),
                unit="runs",
                at_most=0,
                n=total,
            )
            for what in WRONG
        ),
    ]
    finish("fuzz", figures, record=arguments.record)


if __name__ == "__main__":
    main()
