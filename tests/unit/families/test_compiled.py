"""The loops say the same whatever processor numba compiles them for."""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher

import app.families

PROGRAM = """
import json
import numpy as np
from app.families.parts.ngrams.loops import as_read, mean_logits

random = np.random.default_rng(0)
inputs = random.standard_normal((2, 3 * 2 * 4 + 5), np.float32)
weights = tuple(as_read(random.standard_normal(shape).astype(np.float16)) for shape in ((2, 17, 6), (2, 6, 3)))
read = mean_logits(inputs, 3, 4, weights, tuple(np.ones((2, w.shape[2]), np.float32) for w in weights))
print(json.dumps({"ngrams": read.tolist()}))
"""


def said(**environment: str) -> dict[str, Any]:
    """By a process of its own, as functions are compiled when modules are imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    assert not done.stderr, done.stderr
    return json.loads(done.stdout)


def test_compiled_for_any_processor_readers_say_the_same(tmp_path: Path) -> None:
    """As in the image. Not every processor can convert floats of 16 bits by itself."""
    generic = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    for name, values in said().items():
        np.testing.assert_allclose(values, said(**generic)[name], rtol=1e-6, err_msg=name)


def loops() -> Iterator[tuple[str, Any]]:
    for module in pkgutil.walk_packages(app.families.__path__, "app.families."):
        if "openvino" in module.name:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, Dispatcher) and value.py_func.__module__ == module.name:
                yield f"{module.name}.{name}", value.py_func


def test_compiled_loops_use_nothing_from_other_files_of_ours() -> None:
    """numba keeps what it compiled until the file changes, and looks at no other."""
    found = dict(loops())
    assert "app.families.parts.ngrams.loops.read_fields" in found
    for name, function in found.items():
        for used in function.__code__.co_names:
            value = function.__globals__.get(used)
            home = getattr(getattr(value, "py_func", value), "__module__", "")
            assert not home.startswith("app.") or home == function.__module__, f"{name} uses {home}.{used}"
