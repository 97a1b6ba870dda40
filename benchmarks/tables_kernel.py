"""Tables of the loss's kernels, and of what an install takes."""

from __future__ import annotations

import re

from table_records import records, source


def kernel() -> str:
    """The CPU's part of the kernel benchmark."""
    found = records("kernel", device="CPU")
    shape = "on the CPU, 4096 x 2513"
    faster = found[f"times faster than PyTorch calls {shape}"]
    compiled = found[f"times faster than torch.compile {shape}"]
    memory = found[f"extra memory over that of the logits {shape}"]
    return (
        "On a CPU, 4,096 x 2,513 in float32, forward and gradient, timed in turns: "
        f"{faster['value']:.1f} times as fast as the faster of two compositions of PyTorch calls, "
        f"{compiled['value']:.1f} times as fast as one of them under `torch.compile`, with "
        f"{memory['value']:.2f} times the logits' memory beside them, the gradient included. "
        f"{source(found, 'kernel')}\n"
    )


CEILING = re.compile(r"ceiling of the share of copy bandwidth(.*), (H100|H200), (.*)")


def kernel_compile() -> str:
    """What the machine code of the kernels allows at best, without a GPU."""
    found = records("kernel_compile")
    shares: dict[str, dict[str, float]] = {}
    for figure, record in found.items():
        if match := CEILING.fullmatch(figure):
            shares.setdefault(match[3] + match[1], {})[match[2]] = record["value"]
    lines = ["| at best, share of copy bandwidth | H100 | H200 |", "|---|---|---|"]
    lines += [f"| {what} | {of['H100']:.0%} | {of['H200']:.0%} |" for what, of in shares.items()]
    return "\n".join([*lines, "", source(found, "kernel_compile")]) + "\n"


def linear() -> str:
    """The loss from hidden states beside the classifier and the loss one after another."""
    found = records("linear", device="CPU")
    lines = ["| forward and backward, a share or a multiple | memory | speed |", "|---|---|---|"]
    for form in ("dense", "top-50 with tail"):
        for other, label in (("composition", "`distillation_loss`"), ("eager", "eager PyTorch")):
            where = f"{other}, {form}, 1024 x 256 x 131072"
            memory = found[f"memory over that of {where}"]["value"]
            times = found[f"times as fast as {where}"]["value"]
            lines.append(
                f"| {form} teacher, against `F.linear` and {label} | {memory:.2f} | {times:.2f} |"
            )
    lines += ["", "1,024 rows of 256 features, 131,072 classes, float32, one thread; memory beside"]
    lines[-1] += f" the inputs, the gradients included. {source(found, 'linear')}"
    return "\n".join(lines) + "\n"


def install() -> str:
    """What each distribution brings beside PyTorch and Triton."""
    found = records("install")
    lines = ["| beside PyTorch and Triton | packages | MB | seconds |", "|---|---|---|---|"]
    for name in ("antcache-kernels", "antcache"):
        packages, size, seconds = (
            found[f"{what}, {name}"]["value"] for what in ("packages", "megabytes", "seconds")
        )
        lines.append(f"| `{name}` | {packages:.0f} | {size:.1f} | {seconds:.1f} |")
    note = "Itself included; by pip, which had kept what it had downloaded. "
    return "\n".join([*lines, "", note + source(found, "install")]) + "\n"
