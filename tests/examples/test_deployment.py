"""The files for systemd and containers: checked by systemd itself, and done here what the container would do."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from imapipe.testing import Server

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "examples" / "systemd").glob("imapipe-*"))
CONTAINER = ROOT / "examples" / "docker"
INSTRUCTIONS = {"FROM", "RUN", "COPY", "WORKDIR", "USER", "EXPOSE", "HEALTHCHECK", "CMD"}

pytestmark = pytest.mark.skipif(not CONTAINER.is_dir(), reason="the examples are not part of the wheel")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    assert len(UNITS) == 3
    for unit in UNITS:
        # It wants the program to be there, too, which is none of the system's here.
        text = unit.read_text(encoding="utf-8").replace("ExecStart=imapipe ", f"ExecStart={sys.executable} -m imapipe ")
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    found = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / unit.name) for unit in UNITS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    told = [line for line in found.stderr.splitlines() if "imapipe-" in line]
    assert (found.returncode, told) == (0, [])


def _instructions() -> list[tuple[str, str]]:
    """The Dockerfile, an instruction and its words each."""
    text = (CONTAINER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return [(name, words.strip()) for name, _, words in (line.partition(" ") for line in text.splitlines() if line)]


def test_the_dockerfile_installs_and_copies_what_there_is() -> None:
    instructions = _instructions()
    assert {name for name, _ in instructions} == INSTRUCTIONS
    found = dict(instructions)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = re.fullmatch(r"python:(3\.\d+)-slim", found["FROM"])
    assert version
    assert f"Programming Language :: Python :: {version[1]}" in project["classifiers"]
    extras = [name for words in re.findall(r"imapipe\[(.+?)\]", str(instructions)) for name in words.split(",")]
    assert extras
    assert set(extras) <= set(project["optional-dependencies"])
    source, target = found["COPY"].split()
    assert (ROOT / source).is_file()
    command = json.loads(found["CMD"])
    assert target == f"{command[command.index('--app-dir') + 1]}/{command[-1].partition(':')[0]}.py"
    # Nothing runs as root that need not.
    assert [name for name, _ in instructions].index("USER") < [name for name, _ in instructions].index("CMD")


def test_compose_names_what_the_service_reads() -> None:
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load((CONTAINER / "compose.yaml").read_text(encoding="utf-8"))
    service = found["services"]["mail"]
    build = CONTAINER / service["build"]["context"]
    assert (build / service["build"]["dockerfile"]).resolve() == CONTAINER / "Dockerfile"
    code = (ROOT / "examples/recipes/service.py").read_text(encoding="utf-8")
    assert set(service["environment"]) == set(re.findall(r'environ\["(\w+)"\]', code))
    assert [volume.partition(":")[0] for volume in service["volumes"]] == list(found["volumes"])
    assert service["ports"][0].rpartition(":")[2] == dict(_instructions())["EXPOSE"]


@pytest.mark.skipif(find_spec("fastapi") is None or find_spec("uvicorn") is None, reason="FastAPI is not installed")
def test_what_the_container_runs_serves_and_is_healthy(tmp_path: Path) -> None:
    found = dict(_instructions())
    command = json.loads(found["CMD"])
    url = re.findall(r"urlopen\('(.+?)'\)", found["HEALTHCHECK"])[0]
    replaced = {command[command.index("--app-dir") + 1]: str(ROOT / "examples/recipes"), "0.0.0.0": "127.0.0.1"}
    arguments = [replaced.get(word, word) for word in command[1:]]
    with (
        # Nobody else can get its port.
        socket.create_server(("127.0.0.1", 0)) as listening,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Server(3)) as server,
    ):
        url = url.replace(":8000", f":{listening.getsockname()[1]}")
        process = subprocess.Popen(
            [sys.executable, "-m", command[0], "--fd", str(listening.fileno()), *arguments],
            cwd=tmp_path,
            env={**os.environ, "IMAPIPE_URL": server.url, "IMAPIPE_PASSWORD": server.password},
            stderr=subprocess.DEVNULL,
            pass_fds=[listening.fileno()],
        )
        try:
            with urllib.request.urlopen(url, timeout=120) as answer:
                assert json.load(answer)["is_serving"] is True
        finally:
            # As `docker compose stop` does.
            process.terminate()
            assert process.wait(timeout=60) in {0, -15}
