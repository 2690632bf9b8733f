"""What the S3 store says when the environment is wrong; no server is needed for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from optimas_core.artifacts import S3Store
from optimas_core.errors import EnvironmentNotReady


@pytest.fixture
def bare_environment(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


def test_no_credentials_is_one_sentence_with_a_remedy(bare_environment):
    store = S3Store("s3://bucket/prefix", endpoint_url="http://127.0.0.1:9", attempts=1)
    for action in (lambda: store.get("a"), lambda: store.put("a", b"", if_absent=True), lambda: list(store.list())):
        with pytest.raises(EnvironmentNotReady, match="NoCredentialsError.*Set AWS_ACCESS_KEY_ID"):
            action()


def test_an_unknown_profile_and_a_malformed_endpoint(bare_environment, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    with pytest.raises(EnvironmentNotReady, match="AWS_ENDPOINT_URL"):
        S3Store("s3://bucket").get("a")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:hidden@localhost:9000")
    with pytest.raises(EnvironmentNotReady) as caught:
        S3Store("s3://bucket").get("a")
    assert "hidden" not in str(caught.value)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_PROFILE", "absent")
    with pytest.raises(EnvironmentNotReady, match="profile"):
        S3Store("s3://bucket").get("a")


def test_importing_artifacts_imports_nothing_heavy():
    code = "import sys, optimas_core.artifacts; print(sorted({'boto3','botocore','pyarrow','tenacity','pydantic'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"
