"""A server of Kubeflow Pipelines' API for each test, and a client of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import RunWorkspace, Workspace
from optimas_core.deploy import CompiledPipeline, read_pipeline
from optimas_core.launchers.kfp_api import KfpApi, KfpHost, connect

PIPELINE = b"""
pipelineInfo: {name: optimas-controller}
root:
  dag:
    tasks:
      controller: {cachingOptions: {}, componentRef: {name: comp-controller}}
  inputDefinitions:
    parameters:
      workspace: {parameterType: STRING}
      run_id: {parameterType: STRING}
      bundle: {parameterType: STRING}
      gpus: {parameterType: NUMBER_INTEGER, defaultValue: 0, isOptional: true}
      node_selector: {parameterType: STRUCT, isOptional: true}
      shards: {parameterType: NUMBER_INTEGER, defaultValue: 4, isOptional: true}
      shard_indexes: {parameterType: LIST, defaultValue: [0, 1, 2, 3], isOptional: true}
      experiment: {parameterType: STRING, defaultValue: optimas, isOptional: true}
      service_account: {parameterType: STRING, defaultValue: optimas, isOptional: true}
      cluster: {parameterType: STRUCT, defaultValue: {}, isOptional: true}
schemaVersion: 2.1.0
sdkVersion: kfp-2.17.0
"""


def _server_module() -> Any:
    place = Path(__file__).with_name("server.py")
    spec = importlib.util.spec_from_file_location("kfp_server_for_tests", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def kfp_module() -> Any:
    return _server_module()


@pytest.fixture
def kfp(kfp_module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The server; whatever this machine knows of Kubeflow does not reach the test."""
    for name in ("OPTIMAS_KFP_HOST", "OPTIMAS_KFP_TOKEN", "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_SA_TOKEN_PATH", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("optimas_core.launchers.kfp_api._auth._CONTEXT", tmp_path / "context.json")
    server = kfp_module.KfpServer()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def client_of(kfp: Any) -> Iterator[Callable[..., KfpApi]]:
    """`client_of()` asks the server; `deadline_s` is how long it goes on trying."""
    opened = []

    def make(*, namespace: str = "", deadline_s: float = 20.0) -> KfpApi:
        entered = connect(KfpHost(kfp.url, namespace), deadline_s=deadline_s)
        opened.append(entered)
        return entered.__enter__()

    yield make
    for entered in opened:
        entered.__exit__(None, None, None)


@pytest.fixture
def api(client_of: Callable[..., KfpApi]) -> KfpApi:
    return client_of()


@pytest.fixture
def pipeline() -> CompiledPipeline:
    return read_pipeline(PIPELINE)


@pytest.fixture
def run(tmp_path: Path) -> RunWorkspace:
    return Workspace.open(tmp_path / "workspace").run("colours")
