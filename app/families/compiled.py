"""Loops over single numbers, compiled by numba: the n-gram readers are made of them.

Without numba they run as plain Python: correct, but about 100 times slower.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., object])


def has_compiler() -> bool:
    return importlib.util.find_spec("numba") is not None


def converts_halves() -> bool:
    """Whether compiled code may use the processor's own conversion of 16-bit floats; LLVM's other one cannot be linked."""
    if not has_compiler():
        return False
    config: Any = importlib.import_module("numba").config
    if config.CPU_NAME or config.CPU_FEATURES is not None:  # compiled for other machines than this one
        return False
    codegen: Any = importlib.import_module("numba.core.codegen")
    return "+f16c" in codegen.get_host_cpu_features()


def compiled(function: F) -> F:
    """Decorates a function of numbers and arrays that calls only others of its kind and of its own file.

    Compiled at its first call, and kept beside the source or in the user's cache until that file changes (what it calls
    in another file could change unnoticed); where neither can be written, every process compiles for itself. The
    interpreter's lock stays held: for some microseconds, giving it up costs more.
    """
    if not has_compiler():
        return function
    numba: Any = importlib.import_module("numba")
    try:
        made: F = numba.njit(cache=True, error_model="numpy")(function)
    except RuntimeError:  # no place to keep it
        made = numba.njit(error_model="numpy")(function)
    return made
