"""Tables of stores: how fast they are read, made and looked at, and what they bear."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from table_records import TOKENS, Records, records, source, value

CHECKED = "packing EK55: rate of a {} process over one that compares nothing"


def rates(found: Records, prefix: str, labels: Mapping[str, str]) -> list[str]:
    """Windows per second of those of some forms that were measured, and antcache's over them.

    Other Pythons' forms follow those that are named, with the chunks that suit each best.
    """
    own = f"{prefix}antcache map"
    others = {
        name.removeprefix(prefix): record["value"]
        for name, record in found.items()
        if re.match(rf"{prefix}(zarr|Lance) \d", name)
    }
    best: dict[str, str] = {}
    for name in sorted(others, key=others.__getitem__):
        form = re.sub(r", \d+-row chunks", "", name)
        best[form] = name
    named = {**labels, **{best[form]: form.replace("zarr 3", "zarr-python 3") for form in best}}
    lines = []
    for name, label in named.items():
        rate = found[prefix + name]["value"]
        ratio = found.get(f"{own} over {name}")
        times = found[own]["value"] / rate if ratio is None else ratio["value"]
        lines.append(f"| {label} | {rate:,.0f} | {times:.{1 if times < 20 else 0}f} x |")
    return lines


CHUNKS = "of zarr-python 3.3 the better of two chunk sizes; `fused` and `zarrs` are its pipelines."


def reads() -> str:
    """Windows per second, and what packing a dataset takes."""
    found, checks = records("reads"), records("checks")
    lines = ["| windows of 10 rows, one thread | windows/s | antcache map is |", "|---|---|---|"]
    lines += rates(
        found,
        "",
        {
            "antcache pack": "antcache, packed",
            "raw memory map": "raw numpy memory map",
            "antcache map": "antcache, from the memory map",
            "LMDB, 10 gets": "LMDB, 10 gets",
            "h5py": "h5py",
            "LMDB, 150 gets": "LMDB, 150 gets (what AVT does)",
            "zarr": "zarr-python",
        },
    )
    speed, memory = found["EK55: packing"], found["EK55: memory over the pack, map, peak"]
    lines += [
        "",
        f"Random windows of 20 videos of 3,000 x 1,024 float16, page cache warm; {CHUNKS} "
        f"The 28,472 windows of EPIC-KITCHENS-55 are packed at "
        f"{speed['value']:.1f} GB/s of output with {memory['value']:.0f} MB beside the pack. "
        f"{source(found, 'reads')}",
        "",
        f"Of the rate of a process that compares nothing, one that is the first to read these "
        f"files packs at {checks[CHECKED.format('first')]['value']:.2f}, and one that finds them "
        f"as they were compared at {checks[CHECKED.format('later')]['value']:.2f}. "
        f"{source(checks, 'checks')}",
    ]
    return "\n".join(lines) + "\n"


def token_reads() -> str:
    """The same of rows of tokens."""
    found = records("reads")
    lines = ["| one row of 256 tokens, int8 | rows/s | antcache map is |", "|---|---|---|"]
    lines += rates(
        found,
        TOKENS,
        {
            "raw memory map": "raw numpy memory map",
            "antcache map": "antcache, from the memory map",
            "h5py": "h5py",
            "LMDB, 1 get": "LMDB, 1 get",
            "zarr": "zarr-python",
        },
    )
    note = f"Random clips of 256 x 1,024 int8 tokens, one thread, page cache warm; {CHUNKS} "
    return "\n".join([*lines, "", note + source(found, "reads")]) + "\n"


def safety() -> str:
    """Kills and flipped bits."""
    kills, flips = records("durability"), records("bit_rot")
    lines = ["| what was done to a store | Zarr | HDF5 |", "|---|---|---|"]

    def row(label: str, cell: Callable[[str], str]) -> None:
        lines.append(f"| {label} | {cell('zarr')} | {cell('hdf5')} |")

    for processes in ("1 process", "3 processes"):
        row(
            f"extraction by {processes} killed (SIGKILL): videos listed then, of them damaged",
            lambda kind, p=processes: (  # type: ignore[misc]
                f"{kills[f'kills: {kind}, {p}']['value']:.0f} times: "
                f"{kills[f'videos listed after a kill, each verified: {kind}, {p}']['value']:.0f}, "
                f"{kills[f'violations: {kind}, {p}']['value']:.0f}"
            ),
        )
    row(
        "single bits flipped, one at a time: found by `verify`, named wrongly",
        lambda kind: (
            f"{flips[f'{kind}: flipped bits found']['value']:,.0f}, "
            f"{flips[f'{kind}: named wrongly']['value']:.0f}"
        ),
    )
    lines += ["", f"{source(kills, 'durability')} {source(flips, 'bit_rot')}"]
    return "\n".join(lines) + "\n"


KILLED = {
    "`annotations import`": ("import: zarr", "import: hdf5"),
    "`annotations import --overwrite`": ("import --overwrite: zarr", "import --overwrite: hdf5"),
    "`teacher train`": ("teacher train: count", "teacher train: sequence"),
    "`student train`": ("student train",),
    "`student sweep`": ("student sweep",),
}


def goes_on() -> str:
    """Commands that were killed, and went on."""
    found = records("durability")
    head = "| command | killed (SIGKILL) | of these while publishing | left something invalid | "
    lines = [head + "went on, and left what an undisturbed run leaves |", "|---|---|---|---|---|"]
    names = ("kills", "processes killed while publishing", "violations", "re-runs that finished")
    for command, cases in KILLED.items():
        if all(f"kills: {case}" in found for case in cases):
            sums = [sum(found[f"{name}: {case}"]["value"] for case in cases) for name in names]
            lines.append(f"| {command} | {' | '.join(f'{value:.0f}' for value in sums)} |")
    return "\n".join([*lines, "", source(found, "durability")]) + "\n"


def decoding() -> str:
    """How much less is decoded, and what that saves."""
    found = records("decoding", device="CPU")
    rates = ("4 a second", "1 in 5 s")
    lines = [
        "| film, pictures needed | frames not decoded | CPU time of decoding all, over this |",
        "|---|---|---|",
    ]
    for form in dict.fromkeys(name.partition(", ")[0] for name in found):
        for rate in rates:
            left_out = found[f"{form}, {rate}: frames not decoded"]["value"]
            ratio = value(found[f"{form}, {rate}: CPU time of all over needed"], 2)
            lines.append(f"| {form}, {rate} | {left_out:.0f} % | {ratio} |")
    return "\n".join([*lines, "", source(found, "decoding")]) + "\n"


EXTRACTION = {
    "whole, rows/s": "rows a second",
    "whole over what the cores allow": "of what the cores allow",
    "whole over the loop": "over the loop",
    "whole over torchcodec": "over torchcodec",
    "decoding alone over ffmpeg": "decoding alone over FFmpeg",
    "preprocessing as bytes over float32": "preprocessing as bytes over float32",
    "whole, waiting threads asleep over awake": "threads asleep over awake",
}

MEMORY = "memory beside the model, 4 decoders, GB"
LONGER = "memory of long videos over that of videos a quarter as long"


def extraction() -> str:
    """How near a pass comes to what its slowest part allows, and what others take."""
    found = records("extraction", device="CPU")
    passes = [name.removesuffix(": whole, rows/s") for name in found if ": whole, rows/s" in name]
    lines = [
        f"| backbone, videos | {' | '.join(EXTRACTION.values())} |",
        f"|{'---|' * (1 + len(EXTRACTION))}",
    ]
    for of in passes:
        cells = (found.get(f"{of}: {name}") for name in EXTRACTION)
        texts = ("" if cell is None else f"{cell['value']:.2f}" for cell in cells)
        lines.append(f"| {of} | {' | '.join(texts)} |")
    seconds = float(found[MEMORY]["command"].partition("--long ")[2].split()[0])
    note = f"Memory beside the model, 4 decoders: {found[MEMORY]['value']:.2f} GB for videos of "
    note += f"{seconds:g} s, {found[LONGER]['value']:.1f} times that of {seconds / 4:g} s. "
    note += source(found, "extraction")
    return "\n".join([*lines, "", note]) + "\n"


def scale() -> str:
    """Seconds of each call on a store of many videos."""
    found = records("scale", device="CPU")
    lines = [
        "| a stream of 20,000 videos | list | plan an extraction | `info` | memory of all of it |",
        "|---|---|---|---|---|",
    ]
    for kind in ("zarr", "hdf5", "S3", "S3, indexed"):
        calls = " | ".join(
            f"{found[f'{kind}: {c}']['value']:.1f} s" for c in ("list", "plan", "info")
        )
        most = max(
            r["value"] for name, r in found.items() if name.startswith(f"{kind}:") and "mem" in name
        )
        lines.append(f"| {kind} | {calls} | {most:.0f} MB |")
    note = (
        "S3: moto on the same cores, which takes half a second for a list of a thousand objects; "
        "the rows without and with an index are of two days, and other work ran beside the second. "
    )
    return "\n".join([*lines, "", note + source(found, "scale")]) + "\n"


def browse() -> str:
    """Seconds of what the page over a large store asks for, and the memory of it all."""
    found = records("browse", device="CPU")
    lines = ["| step | time |", "|---|---|"]
    lines += [
        f"| {name} | {value(record, 2)} s |"
        for name, record in found.items()
        if record["unit"] == "s"
    ]
    first, every = (found[f"{name}, peak memory"]["value"] for name in ("first page", "everything"))
    note = f"Memory: {first:.0f} MB at the first page, {every:.0f} MB after everything. "
    return "\n".join([*lines, "", note + source(found, "browse")]) + "\n"
