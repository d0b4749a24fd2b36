"""Loops over single numbers, compiled by numba: the n-gram readers are made of them."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba.core.codegen import get_host_cpu_features

F = TypeVar("F", bound=Callable[..., object])


def converts_halves() -> bool:
    """Whether compiled code may use the processor's own conversion of 16-bit floats; LLVM's other one cannot be linked."""
    config: Any = numba.config
    if config.CPU_NAME or config.CPU_FEATURES is not None:  # compiled for other machines than this one
        return False
    return "+f16c" in get_host_cpu_features()  # type: ignore[no-untyped-call]


def compiled(function: F) -> F:
    """Decorates a function of numbers and arrays that calls only others of its kind and of its own file.

    Compiled at its first call, and kept beside the source or in the user's cache until that file changes (what it calls
    in another file could change unnoticed); where neither can be written, every process compiles for itself. The
    interpreter's lock stays held: for some microseconds, giving it up costs more.
    """
    try:
        return numba.njit(cache=True, error_model="numpy")(function)  # type: ignore[return-value]
    except RuntimeError:  # no place to keep it
        return numba.njit(error_model="numpy")(function)  # type: ignore[return-value]
