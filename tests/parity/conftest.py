from importlib import import_module

import pytest


@pytest.fixture(scope="session")
def librosa_in_python() -> None:
    """librosa is imported without compiling what numba would at once, in 18 s: a spectrogram is the same without."""
    with pytest.MonkeyPatch.context() as patch:
        for decorator in ("vectorize", "guvectorize"):
            patch.setattr(f"numba.{decorator}", lambda *_, **__: lambda function: function)
        import_module("librosa.feature.spectral")
