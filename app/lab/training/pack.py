"""`lrid pack`: one archive with all that a machine without network needs to synthesise and to train, but torch and numpy.

    lrid-pack/lrid                  starts `lrid` with what is here (see `pack_launcher`)
    lrid-pack/made-for              the Python and the kind of machine that it can run on
    lrid-pack/code/app/             this project
    lrid-pack/site/                 the installed packages that training and synthesis need
    lrid-pack/espeak/               espeak-ng, the libraries it is linked with, and its voices
    lrid-pack/data/metadata.tsv     real names to pair clips with, and rows to read

Two things are left out. PyAV, for its size: Ogg, AAC and WebM are refused there, unless that machine has it. And the audio
of a catalogue, which would not fit: its folder is copied beside the archive. espeak-ng is free software under GPL-3.0 or
later; who passes an archive on, passes that on as well.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

import app
from app.lab.training import pack_launcher
from app.lab.training.errors import TrainingError

ROOT = "lrid-pack"
NEEDED = ("typer", "rich", "pydantic", "pydantic-settings", "safetensors", "soundfile", "soxr", "langdetect")
SYNTHESIS = ("scipy", "pyworld", "setuptools")  # pyworld imports pkg_resources without saying so
NO_PYAV = '''"""Stands in for PyAV, which is not in this archive."""


def __getattr__(name: str) -> object:
    from app.errors import AudioUnknownFormat

    raise AudioUnknownFormat("Expected WAV, FLAC, MP3 or AIFF: PyAV, which reads other files, is not installed here.")
'''
LEFT_OUT = re.compile(r"^\.\.|(^|/)(tests?|__pycache__)/|\.(pyc|pyi|pyx|pxd|c|h)$")
SYSTEM_LIBRARIES = re.compile(r"^(libc\.|libm\.|libpthread|libdl|librt|libstdc|libgcc_s)")  # every machine has its own
MADE = 315_532_800  # 1980-01-01: tar warns of anything older
Member = tuple[str, Path | bytes]  # name below ROOT, and a file or its content


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """What goes into an archive."""

    output: Path  # .tar.gz
    metadata: Path
    synthesis: bool = True  # with espeak-ng, scipy and pyworld
    limit_mb: float = 60.0  # of the archive; 10^6 bytes


def pack(config: PackConfig, progress: Callable[[int], None]) -> int:
    """Writes the archive, whole or not at all; returns its bytes. Calls `progress` with the files added.

    Raises TrainingError if something to pack is missing, or the archive is over its limit.
    """
    output = config.output
    if output.exists():
        raise TrainingError(f"{output} exists; choose another name")
    members = list(_members(config))
    part = output.with_name(f".{output.name}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        raw_bytes = _write(part, members, progress)
        size_bytes = part.stat().st_size
        if size_bytes > config.limit_mb * 1e6:
            raise TrainingError(_too_large(size_bytes, config.limit_mb, raw_bytes))
        part.replace(output)
    except OSError as error:
        raise TrainingError(f"{output} cannot be made ({error}); free some disk or choose another place") from error
    finally:
        part.unlink(missing_ok=True)
    return size_bytes


def _write(path: Path, members: list[Member], progress: Callable[[int], None]) -> Counter[str]:
    """Returns the bytes before compression, by the first part of the name."""
    raw_bytes: Counter[str] = Counter()
    with tarfile.open(path, "w:gz", compresslevel=6) as archive:
        for name, source in members:
            content = source if isinstance(source, bytes) else source.read_bytes()
            entry = tarfile.TarInfo(f"{ROOT}/{name}")  # of nobody, all of one date: the same files make the same archive
            entry.size, entry.mtime = len(content), MADE
            entry.mode = 0o755 if name in {"lrid", "espeak/espeak-ng"} else 0o644
            archive.addfile(entry, io.BytesIO(content))
            raw_bytes[PurePosixPath(name).parts[0]] += len(content)
            progress(1)
    return raw_bytes


def _too_large(size_bytes: int, limit_mb: float, raw_bytes: Counter[str]) -> str:
    told = ", ".join(f"{name} {n / 1e6:.1f} MB" for name, n in raw_bytes.most_common() if n >= 1e5)
    return (
        f"the archive takes {size_bytes / 1e6:.1f} MB, {limit_mb:g} are allowed (before compression: {told}); "
        "give a shorter --metadata, --no-synthesis, or a higher --limit-mb"
    )


def _members(config: PackConfig) -> Iterator[Member]:
    if not config.metadata.is_file():
        raise TrainingError(f"{config.metadata} is missing; name the rows with --metadata, or their folder with LRID_DATA")
    yield "lrid", Path(pack_launcher.__file__)
    yield "made-for", f"{pack_launcher.this_machine()}\n".encode()
    yield "without_pyav/av.py", NO_PYAV.encode()
    yield "data/metadata.tsv", config.metadata
    yield from _tree(Path(app.__file__).parent, "code/app")
    if config.synthesis:
        yield from _espeak()
    for name in _closure([*NEEDED, *SYNTHESIS * config.synthesis]):
        yield from _distribution(name)


def _tree(folder: Path, name: str) -> Iterator[Member]:
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder).as_posix()
        if path.is_file() and not LEFT_OUT.search(below):
            yield f"{name}/{below}", path


def _distribution(name: str) -> Iterator[Member]:
    installed = metadata.distribution(name)
    for file in sorted(installed.files or ()):
        source = Path(str(installed.locate_file(file)))
        if source.is_file() and not LEFT_OUT.search(file.as_posix()):
            yield f"site/{file.as_posix()}", source


def _closure(names: list[str]) -> list[str]:
    """Installed distributions that these need, themselves included; not those that the other machine has."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found or name in pack_launcher.EXPECTED:
            continue
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            if name in names:
                raise TrainingError(f"{name} is not installed here: python -m pip install -e '.[train]'") from None
            continue  # for another system or another Python
        found.add(name)
        waiting += [re.split(r"[^\w.-]", need, maxsplit=1)[0] for need in requires if "extra ==" not in need]
    return sorted(found)


def _espeak() -> Iterator[Member]:
    """The program, the libraries it is linked with, and its voices."""
    program = shutil.which("espeak-ng")
    if program is None:
        raise TrainingError("espeak-ng is not installed here: apt-get install espeak-ng, or --no-synthesis")
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise TrainingError(f"espeak-ng cannot be asked what it needs ({error}); reinstall it, or --no-synthesis") from error
    voices = Path(said.partition("Data at:")[2].strip())
    if not (voices / "phontab").is_file():
        raise TrainingError(f"espeak-ng does not say where its voices are ({said.strip()}); reinstall it, or --no-synthesis")
    yield "espeak/espeak-ng", Path(program)
    for name, path in re.findall(r"^\s*(\S+) => (/\S+)", linked, re.MULTILINE):
        if not SYSTEM_LIBRARIES.match(name):
            yield f"espeak/lib/{name}", Path(path)
    yield from _tree(voices, "espeak/espeak-ng-data")
