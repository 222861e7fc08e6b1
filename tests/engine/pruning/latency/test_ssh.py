# SPDX-License-Identifier: AGPL-3.0-or-later
"""A whole trip through a real SSH server on the loopback address, broken off once and taken up again.

It needs the command `ssh` and the package asyncssh, whose server runs commands in a home of its own.
"""

import asyncio
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from ultralytics.engine.pruning.latency.bundle import write_bundle
from ultralytics.engine.pruning.latency.runner import ask_device, run_bundle
from ultralytics.engine.pruning.latency.shapes import ConvShape

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("ssh") and find_spec("asyncssh")), reason="needs ssh and asyncssh"),
    pytest.mark.skipif(not (find_spec("onnx") and find_spec("onnxruntime")), reason="needs ONNX Runtime"),
]
HOST = "127.0.0.1"


@pytest.fixture
def board(tmp_path):
    """The command that reaches the server, and its home."""
    import asyncssh

    home = tmp_path / "home"
    home.mkdir()
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(str(tmp_path / "key"))
    (tmp_path / "key").chmod(0o600)
    key.write_public_key(str(tmp_path / "keys"))
    python3 = Path(sys.executable).with_name("python3")
    if not python3.exists():
        pytest.skip("needs a python3 beside the interpreter")
    environment = {**os.environ, "HOME": str(home), "PATH": f"{python3.parent}:/usr/bin:/bin"}

    async def handle(process):
        words = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment}
        local = await asyncio.create_subprocess_shell(process.command, cwd=home, **words)
        await process.redirect(local.stdin, local.stdout, local.stderr)
        process.exit(await local.wait())

    started, loop, port = threading.Event(), asyncio.new_event_loop(), []

    async def serve():
        keys = {"server_host_keys": [key], "authorized_client_keys": str(tmp_path / "keys")}
        server = await asyncssh.listen(HOST, 0, process_factory=handle, encoding=None, **keys)
        port.append(server.get_port())
        started.set()

    def run():
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(30)
    options = ("BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
    words = [
        "ssh",
        "-i",
        str(tmp_path / "key"),
        *(w for o in options for w in ("-o", o)),
        "-p",
        str(port[0]),
        f"pi@{HOST}",
    ]
    yield shlex.join(words), home
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)


def test_a_trip_that_is_broken_off_is_taken_up_again(board, tmp_path):
    runner, home = board
    base = ConvShape(16, 16, (3, 3), (1, 1), (1, 1), (1, 1), False, False, "SiLU", 10, 10)
    groups = [
        [base._replace(height=size, width=size), base._replace(height=size, width=size + 1)] for size in range(10, 60)
    ]
    bundle = write_bundle(tmp_path / "bundle", "onnx", {}, groups, 0)
    assert ask_device(bundle, runner)["runtime"] == "onnx"
    code = "import sys; from pathlib import Path; from ultralytics.engine.pruning.latency.runner import run_bundle\n"
    code += "run_bundle(Path(sys.argv[1]), sys.argv[2])"
    trip = subprocess.Popen([sys.executable, "-c", code, str(bundle), runner])
    place = home / ".cache" / "ultralytics-compress" / json.loads((bundle / "bundle.json").read_text())["id"]
    while not (place / "answer.json").exists() and trip.poll() is None:
        time.sleep(0.01)
    (pid,) = (process.pid for process in processes_in(place))
    os.kill(pid, 9)  # the board loses its power
    trip.wait(60)
    assert trip.returncode
    earlier = json.loads((place / "answer.json").read_text())["convolutions"]
    assert 0 < len(earlier) < 100
    answer = run_bundle(bundle, runner, fetched=tmp_path / "answer.json")
    assert len(answer.times) == 100
    assert {key: answer.spreads[key] for key in earlier} == earlier


def processes_in(folder):
    """Return the Python processes that work in a folder."""
    import psutil

    found = [p for p in psutil.process_iter(["cwd", "name"]) if p.info["cwd"] == str(folder)]
    return [p for p in found if p.info["name"].startswith("python")]
