"""Triton's interpreter, quicker by half and more, with nothing changed of what it computes.

Most of its time goes into descriptions of shapes: each number in them becomes an object with a type
of its own, for every value of every step. What is asked for again is made once here; all of it is
never written to.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest


def quicken(patch: pytest.MonkeyPatch) -> None:
    """Patch Triton's interpreter and the parts of its language that it goes through."""
    from triton.runtime import interpreter

    _know_types(patch, interpreter)
    _know_shapes(patch)
    _broadcast_at_once(patch, interpreter)
    # Whether an int32 overflows is computed at each step, and then asserted in debug mode alone.
    options = interpreter.interpreter_builder.options
    assert not options.debug
    quiet = dataclasses.replace(options, sanitize_overflow=False)
    patch.setattr(interpreter.interpreter_builder, "options", quiet)


def _know_types(patch: pytest.MonkeyPatch, interpreter: Any) -> None:
    """What it would find out anew at each step, it finds out once: the language was changed for
    calls within a kernel when the kernel was launched."""
    patch_lang, launch = interpreter._patch_lang, interpreter.GridExecutor.__call__
    patched: set[str] = set()

    def patch_once(fn: Any) -> Any:
        if fn.__module__ in patched:
            return None  # is for the launch alone, which comes first
        patched.add(fn.__module__)
        return patch_lang(fn)

    def launch_anew(self: Any, *args: Any, **kwargs: Any) -> Any:
        patched.clear()
        return launch(self, *args, **kwargs)

    np_dtype = interpreter._get_np_dtype
    found: dict[str, np.dtype[Any]] = {}

    def np_dtype_once(kind: Any) -> np.dtype[Any]:
        name = kind.scalar.name
        if name not in found:
            found[name] = np_dtype(kind.scalar)
        return found[name]

    patch.setattr(interpreter, "_get_np_dtype", np_dtype_once)
    patch.setattr(interpreter, "_patch_lang", patch_once)
    patch.setattr(interpreter.GridExecutor, "__call__", launch_anew)


def _know_shapes(patch: pytest.MonkeyPatch) -> None:
    """Types of blocks by their elements and sizes, and what a tensor says of itself by its type."""
    from triton.language import core

    unwrap, block, tensor = (
        core._unwrap_if_constexpr,
        core.block_type.__init__,
        core.tensor.__init__,
    )
    wrapped, plain = core.constexpr, (core.tensor, int, float, bool, str, type(None))

    def unwrap_at_once(value: Any) -> Any:
        kind = type(value)
        if kind is wrapped:
            return value.value
        return value if kind in plain else unwrap(value)

    def block_once(self: Any, element_ty: Any, shape: Any) -> None:
        sizes = tuple(s.value if type(s) is wrapped else s for s in shape)
        blocks = vars(element_ty).setdefault("_blocks", {})
        if sizes not in blocks:
            block(self, element_ty, shape)
            blocks[sizes] = vars(self)
        self.__dict__ = blocks[sizes]

    def tensor_once(self: Any, handle: Any, type: Any) -> None:
        known = vars(type).get("_of_tensor")
        if known is None:
            tensor(self, handle, type)
            type._of_tensor = self.shape, self.numel, self.dtype
            return
        self.handle, self.type = handle, type
        self.shape, self.numel, self.dtype = known

    patch.setattr(core, "_unwrap_if_constexpr", unwrap_at_once)
    patch.setattr(core.block_type, "__init__", block_once)
    patch.setattr(core.tensor, "__init__", tensor_once)


def _broadcast_at_once(patch: pytest.MonkeyPatch, interpreter: Any) -> None:
    """Two blocks of one shape, and two scalars, are left as they are."""
    semantic = interpreter.interpreter_semantic
    broadcast = semantic.broadcast_impl_value

    def broadcast_if_needed(lhs: Any, rhs: Any) -> Any:
        a, b = lhs.type, rhs.type
        if a.is_block() and b.is_block() and a.shape.values == b.shape.values:
            return lhs, rhs
        return broadcast(lhs, rhs)

    patch.setattr(semantic, "broadcast_impl_value", broadcast_if_needed)
