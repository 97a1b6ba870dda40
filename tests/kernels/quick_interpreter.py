"""Triton's interpreter, quicker by half and more, with nothing changed of what it computes.

Most of its time goes into descriptions of shapes: each number in them becomes an object with a type
of its own, for every value of every step. What is asked for again is made once here; all of it is
never written to.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import numpy as np
import pytest

PLAIN = ("fp32", "fp64", "int1", "int32", "int64")
"""Types of which two give a third of the same in every operation."""


def quicken(patch: pytest.MonkeyPatch) -> None:
    """Patch Triton's interpreter and the parts of its language that it goes through."""
    from triton.runtime import interpreter

    _know_language(patch, interpreter)
    _know_types(patch, interpreter)
    _know_shapes(patch)
    _know_operands(patch, interpreter)
    # Whether an int32 overflows is computed at each step, and then asserted in debug mode alone.
    options = interpreter.interpreter_builder.options
    assert not options.debug
    quiet = dataclasses.replace(options, sanitize_overflow=False)
    patch.setattr(interpreter.interpreter_builder, "options", quiet)


def _know_language(patch: pytest.MonkeyPatch, interpreter: Any) -> None:
    """The functions of the language for a launch are made once, and called without a detour."""
    from triton.language import core

    made: dict[Any, list[tuple[str, Any]]] = {}

    def for_interpreter(member: Any) -> Any:
        inner = getattr(member, "__wrapped__", member)

        def call(*args: Any, **kwargs: Any) -> Any:
            kwargs["_semantic"] = interpreter.interpreter_semantic
            return inner(*args, **kwargs)

        return call

    def patch_builtin(package: Any, _builder: object, scope: Any) -> None:
        if package not in made:
            members = inspect.getmembers(package, core.is_builtin)
            made[package] = [(name, for_interpreter(member)) for name, member in members]
        for name, member in made[package]:
            scope.set_attr(package, name, member)

    patch.setattr(interpreter, "_patch_builtin", patch_builtin)


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

    handle = interpreter.TensorHandle
    check, checked = handle.__post_init__, set()

    def check_once(self: Any) -> None:
        kind = self.data.itemsize, self.dtype.name
        if kind not in checked:
            check(self)
            checked.add(kind)

    patch.setattr(handle, "__post_init__", check_once)
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

    equal = core.dtype.__eq__

    def equal_at_once(self: Any, other: Any) -> bool:
        return self is other or equal(self, other)

    def tensor_once(self: Any, handle: Any, type: Any) -> None:
        known = vars(type).get("_of_tensor")
        if known is None:
            tensor(self, handle, type)
            type._of_tensor = self.shape, self.numel, self.dtype
            return
        self.handle, self.type = handle, type
        self.shape, self.numel, self.dtype = known

    patch.setattr(core.dtype, "__eq__", equal_at_once)
    patch.setattr(core, "_unwrap_if_constexpr", unwrap_at_once)
    patch.setattr(core.block_type, "__init__", block_once)
    patch.setattr(core.tensor, "__init__", tensor_once)


def _know_operands(patch: pytest.MonkeyPatch, interpreter: Any) -> None:
    """Operands that fit are left as they are; numbers become blocks once; what is the same
    everywhere in a block is one value in memory."""
    from triton.language import core

    semantic, tensor = interpreter.interpreter_semantic, core.tensor
    check, broadcast = semantic.binary_op_type_checking_impl, semantic.broadcast_impl_value
    numbers: dict[Any, Any] = {}

    def spread(scalar: Any, like: Any) -> Any:
        kind = scalar.handle.dtype
        data = scalar.handle.data.astype(interpreter._get_np_dtype(kind), copy=False)
        everywhere = np.ndarray(like.shape, data.dtype, data, strides=(0,) * len(like.shape))
        block = like.with_element_ty(scalar.type)
        return tensor(interpreter.TensorHandle(everywhere, kind.scalar), block)

    def broadcast_if_needed(lhs: Any, rhs: Any) -> Any:
        a, b = lhs.type, rhs.type
        if a.is_block() and b.is_block():
            return (lhs, rhs) if a.shape == b.shape else broadcast(lhs, rhs)
        if a.is_block():
            return lhs, spread(rhs, a)
        return (spread(lhs, b) if b.is_block() else lhs), rhs

    def check_at_once(lhs: Any, rhs: Any, *how: Any, **more: Any) -> Any:
        left, right = isinstance(lhs, tensor), isinstance(rhs, tensor)
        if left and right:
            a = lhs.type.scalar
            if a.name == rhs.type.scalar.name and a.name in PLAIN:
                return broadcast_if_needed(lhs, rhs)
        if left == right:
            return check(lhs, rhs, *how, **more)
        known, number = (lhs, rhs) if left else (rhs, lhs)
        key = (left, known.type.name, type(number), number, how, *more.items())
        if key not in numbers:
            pair = check(lhs, rhs, *how, **more)
            if pair[right] is not known:  # a number that decides the type of both
                return pair
            numbers[key] = pair[left]
        return (known, numbers[key]) if left else (numbers[key], known)

    patch.setattr(semantic, "broadcast_impl_value", broadcast_if_needed)
    patch.setattr(semantic, "binary_op_type_checking_impl", check_at_once)
