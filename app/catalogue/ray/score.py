"""A catalogue by Ray Data: Parquet → processes that answer → Parquet. What was written is not asked again.

Ray moves paths and names between machines, never samples: each process reads the files itself.
"""

import importlib
import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.catalogue.errors import ClusterUnusable
from app.catalogue.ray.scorer import Scorer
from app.catalogue.ray.songs import Songs, find_songs
from app.catalogue.rows import ANSWER_COLUMNS
from app.catalogue.summary import Summary
from app.errors import LridError, ReleaseError
from app.serving.options import Options
from app.settings import Settings

LOCAL = "local"  # to Ray as well: a new one
SPARE_CPUS = 2  # of Ray's count, not of the machine: for its tasks that read, and write or leave out what is written
# Rows in the hands of a process, lost with it; and in a file, lost with the run. Seconds of work, half a minute of it.
_NAMES_PER_BATCH, _NAMES_PER_FILE = 2_000, 20_000
_FILES_PER_BATCH, _FILES_PER_FILE = 32, 256


def score(settings: Settings, given: str, output: Path, address: str, workers: int, options: Options) -> None:
    """Answer the songs of `given` that are not in `output` yet, by so many processes of one CPU.

    `address`: `local`, or what ray.init takes: `auto`, HOST:PORT. Raises InputUnreadable, ClusterUnusable, ReleaseError.
    """
    if importlib.util.find_spec("ray") is None:
        raise ClusterUnusable("not installed: python -m pip install 'lrid-serve[ray]'")
    songs = find_songs(given, output)
    with _connected(address, workers + SPARE_CPUS) as ray:
        try:
            scorer = (
                settings.model_copy(update={"torch_threads": settings.torch_threads or 1}),
                songs.folder,
                options,
            )
            _run(songs, output.absolute(), workers, scorer)
        except ray.exceptions.RayError as error:
            raise _ours(error) from error


def summarise(output: Path) -> Summary:
    """What a folder of answers holds; seconds for a million rows."""
    dataset = importlib.import_module("pyarrow.dataset")
    summary = Summary()
    for batch in dataset.dataset(output, format="parquet").to_batches(columns=[*ANSWER_COLUMNS]):
        for cells in batch.to_pylist():
            summary.count(cells)
    return summary


def _run(songs: Songs, output: Path, workers: int, scorer: tuple[Settings, Path, Options]) -> None:
    """`scorer`: arguments of Scorer."""
    data = importlib.import_module("ray.data")
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context.checkpoint_config = importlib.import_module("ray.data.checkpoint").CheckpointConfig(
        songs.id_column, f"{output}.checkpoint", delete_checkpoint_on_success=False
    )
    per_batch, per_file = (_FILES_PER_BATCH, _FILES_PER_FILE) if songs.has_audio else (_NAMES_PER_BATCH, _NAMES_PER_FILE)
    asked = data.read_parquet([str(file.absolute()) for file in songs.files]).repartition(
        target_num_rows_per_block=per_batch
    )
    answered = asked.map_batches(
        Scorer,
        fn_constructor_args=scorer,
        batch_format="pyarrow",
        batch_size=per_batch,
        compute=data.ActorPoolStrategy(size=workers),
        num_cpus=1,
    )
    answered.write_parquet(str(output), min_rows_per_file=per_file)


@contextmanager
def _connected(address: str, cpus: int) -> Iterator[Any]:
    """Ray, connected to the cluster or started for this run alone. Raises ClusterUnusable."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local: dict[str, Any] = {}
    if address == LOCAL:
        local = {"num_cpus": cpus, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # so that Ray listens on loopback only
    ray = importlib.import_module("ray")
    try:  # without an address it would join any Ray that runs here, or that RAY_ADDRESS names
        ray.init(address, log_to_driver=False, logging_level="error", **local)
    except Exception as error:  # of any kind: a start that takes Ray too long is a bare Exception
        raise ClusterUnusable(f"{address}: {error}") from error
    try:
        found = ray.cluster_resources().get("CPU", 0)
        if found < cpus:  # Ray itself would wait for ever
            raise ClusterUnusable(
                f"{cpus - SPARE_CPUS} workers of 1 CPU and {SPARE_CPUS} for reading and writing are {cpus}; "
                f"the cluster says that it has {found:g}"
            )
        yield ray
    finally:
        ray.shutdown()


def _ours(error: Exception) -> LridError:
    """What a worker raised, of which Ray hands over the traceback as text; nothing else of ours ends a run."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    known: list[type[ReleaseError]] = [ReleaseError, *ReleaseError.__subclasses__()]
    for line in lines:
        name, _, detail = line.partition(": ")
        for kind in known:
            if name == f"{kind.__module__}.{kind.__name__}":
                return kind(f"a worker has said: {detail}")
    return ClusterUnusable(f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}")
