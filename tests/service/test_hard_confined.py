"""As in a hardened container: an unknown user without rights, a root file system that cannot be written, one folder for
temporary files. Needs root to set that up; elsewhere it is skipped.
"""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.service.faulty import clip
from tests.service.hard import ask_all
from tests.service.live import ROOT, wait_until
from tests.service.openloop import audio_post, json_post
from tests.service.test_hard_connections import is_ready

USER = 10_001  # the image's
CONFINE = """
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=1777 tmpfs "$WRITABLE"
mount --bind / /; mount -o remount,ro,bind /
if touch "$REPOSITORY/probe" 2>/dev/null; then exit 99; fi
cd "$REPOSITORY"
exec setpriv --reuid $USER_ID --regid $USER_ID --clear-groups --no-new-privs \
    --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search "$@"
"""  # to read the interpreter, wherever it is installed, is the only right left


def can_confine() -> bool:
    if os.geteuid() or not all(map(shutil.which, ("unshare", "setpriv", "mount"))):
        return False
    probe = "mount --make-rprivate / && mount --bind / / && mount -o remount,ro,bind /"
    return subprocess.run(["unshare", "--mount", "sh", "-c", probe], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_confine(), reason="needs root and mount namespaces")
def test_without_rights_and_without_a_disk(tiny_store: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    writable = tmp_path / "writable"
    writable.mkdir()
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"LRID_MODEL_STORE": str(tiny_store), "LRID_MODEL": "lrid_net/1"}
    environment |= {"WRITABLE": str(writable), "REPOSITORY": str(ROOT), "USER_ID": str(USER)}
    environment |= {"HOME": str(writable), "TMPDIR": str(writable), "LOGNAME": "lrid"}
    environment |= {"LRID_TORCH_THREADS": "1", "LRID_PRECISION": "fp32", "OMP_NUM_THREADS": "1"}
    serve = [sys.executable, "-m", "app.cli", "serve", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        command = ["unshare", "--mount", "sh", "-c", CONFINE, "sh", *serve]
        process = subprocess.Popen(command, env=environment, stderr=log)
    try:
        wait_until(lambda: process.poll() is not None or is_ready(port), (tmp_path / "log").read_text)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        assert {each.uids().effective for each in family} == {USER}
        replies = ask_all(port, [audio_post(clip(0.3)), json_post({"title": "La vie en rose"})] * 4)
        assert [reply.status for reply in replies] == [200] * 8
    finally:
        process.terminate()
        assert process.wait(60) == 0
