"""Public names of a package that are imported from their modules when they are asked for.

Promise: importing a package loads none of them, so that what needs PyTorch costs nothing until
then; an unknown name is an AttributeError, as in any module.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_exports(
    package: str, names: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` (PEP 562) of `package`.

    Args:
        package: its name.
        names: by module, its public names with spaces between; a type checker sees them by
            imports under `TYPE_CHECKING` beside it.
    """
    homes = {
        name: f"{package}.{module}" for module, listed in names.items() for name in listed.split()
    }

    def attribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name]), name)

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return attribute, listed
