"""The distillation loss as a distribution of its own, `antcache-kernels`: it needs PyTorch alone.

Two distributions must not own the same files: with one gone, the other is broken. So this one is
made of copies under another name: where the code says `antcache`, the copies say
`antcache_kernels`, in imports, hints and names of operators, and one process can use both.
Versions are those of `setup.py` beside this folder.
"""

import re
import runpy
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel
from setuptools.command.sdist import sdist
from setuptools.errors import SetupError

ROOT = Path(__file__).resolve().parents[1]
WHOLE = runpy.run_path(str(ROOT / "setup.py"))
NAME = "antcache_kernels"
SHARED = ("errors", "checks", "text")
"""Modules of `antcache` itself that the kernels import."""
EXTRAS = {name: WHOLE["EXTRAS"][name] for name in ("gpu", "cpu")}
ROOMS = find_packages(str(ROOT / "kernels"), exclude=["benchmark"])


class Copies(build_py):
    """Copies modules under the other name."""

    def find_package_modules(self, package, package_dir):
        found = super().find_package_modules(package, package_dir)
        if package == NAME:
            found += [(package, name, str(ROOT / f"antcache/{name}.py")) for name in SHARED]
        return found

    def build_module(self, module, module_file, package):
        made, copied = super().build_module(module, module_file, package)
        text = Path(made).read_text("utf-8")
        Path(made).write_text(re.sub(r"\bantcache\b", NAME, text), "utf-8")
        return made, copied


class NoLinks(editable_wheel):
    """Copies can't be edited in place."""

    def run(self):
        raise SetupError("antcache-kernels is made of copies: install it without -e")


class NoSources(sdist):
    """What is copied lies outside this folder, whose archive would be of no use."""

    def run(self):
        raise SetupError("antcache-kernels has no source archive: build a wheel (pip wheel)")


setup(
    name="antcache-kernels",
    version=WHOLE["VERSION"],
    description="Distillation loss and its gradient in one pass over the logits",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[NAME, f"{NAME}.kernels", *(f"{NAME}.kernels.{room}" for room in ROOMS)],
    package_dir={NAME: NAME, f"{NAME}.kernels": "../kernels"},
    package_data={NAME: ["py.typed"]},
    install_requires=[line for line in WHOLE["REQUIRES"] if line.startswith("torch")],
    extras_require=EXTRAS,
    cmdclass={"build_py": Copies, "editable_wheel": NoLinks, "sdist": NoSources},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
