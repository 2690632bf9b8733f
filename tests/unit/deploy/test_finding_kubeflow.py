"""Where the API is and as whom we ask: the order, the files, and that no token goes where it should not."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from optimas_core.errors import EnvironmentNotReady
from optimas_core.launchers.kfp_api import FoundCredentials, KfpHost, connect

TOKEN = "a-token-of-the-tests"


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "OPTIMAS_KFP_HOST",
        "OPTIMAS_KFP_TOKEN",
        "KF_PIPELINES_ENDPOINT",
        "KF_PIPELINES_SA_TOKEN_PATH",
        "KUBERNETES_SERVICE_HOST",
        "KUBECONFIG",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("optimas_core.launchers.kfp_api._auth._PROJECTED_TOKEN", tmp_path / "projected")
    monkeypatch.setattr("optimas_core.launchers.kfp_api._auth._POD_NAMESPACE", tmp_path / "namespace")


def host_of(where: KfpHost) -> str:
    with connect(where) as api:
        return api.host


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A program of that name that does what a script says, and a kubeconfig."""

    def write(script: str) -> None:
        place = tmp_path / "bin" / "kubectl"
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"#!/bin/sh\n{script}\n")
        place.chmod(place.stat().st_mode | stat.S_IXUSR)
        config = tmp_path / "kubeconfig"
        config.write_text("{}")
        monkeypatch.setenv("KUBECONFIG", str(config))

    return write


def test_the_order_of_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kubectl: Callable[[str], None]) -> None:
    with pytest.raises(EnvironmentNotReady, match="no address of Kubeflow Pipelines is known.*--host.*OPTIMAS_KFP_HOST.*kubectl"):
        host_of(KfpHost())
    kubectl('echo "Forwarding from 127.0.0.1:40001 -> 8888"; exec /bin/sleep 60')
    assert host_of(KfpHost()) == "http://127.0.0.1:40001"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    (tmp_path / "namespace").write_text("alice")
    assert host_of(KfpHost(service_namespace="pipelines")) == "http://ml-pipeline.pipelines.svc.cluster.local:8888"
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "https://theirs/pipeline/")
    assert host_of(KfpHost()) == "https://theirs/pipeline"
    monkeypatch.setenv("OPTIMAS_KFP_HOST", "ours.example.org")
    assert host_of(KfpHost()) == "https://ours.example.org", "https where nothing is said"
    assert host_of(KfpHost("http://127.0.0.1:30888/")) == "http://127.0.0.1:30888"


@pytest.mark.parametrize(
    "host", ["", "http://", "ftp://h", "http://h:port", "http://h:99999", "http://h?q=1", "http://h#x", "http://h\n", "http://["]
)
def test_an_address_that_is_none(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvironmentNotReady) as caught:
        host_of(KfpHost(host))
    assert caught.value.remedy


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    for host in ("https://me:hunter22@kfp.example.org", "ftp://me:hunter22@kfp.example.org"):
        with pytest.raises(EnvironmentNotReady) as caught:
            host_of(KfpHost(host))
        assert "hunter22" not in str(caught.value)


def test_a_token_goes_over_https_to_this_machine_or_into_the_cluster_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIMAS_KFP_TOKEN", TOKEN)
    for near in (
        "https://far.example.org",
        "http://127.0.0.1:1",
        "http://localhost:1",
        "http://ml-pipeline.kubeflow.svc:8888",
        "http://ml-pipeline:8888",
    ):
        assert FoundCredentials(near, {}).headers() == {"Authorization": f"Bearer {TOKEN}"}
    for far in ("http://far.example.org", "http://10.0.0.1:8888"):
        with pytest.raises(EnvironmentNotReady, match="in the clear") as caught:
            FoundCredentials(far, {})
        assert TOKEN not in str(caught.value)


def test_what_a_pod_was_given_for_its_own_cluster_is_not_shown_to_another(tmp_path: Path) -> None:
    (tmp_path / "projected").write_text(TOKEN)
    assert FoundCredentials("http://ml-pipeline.kubeflow.svc.cluster.local:8888", {}).headers() == {"Authorization": f"Bearer {TOKEN}"}
    assert FoundCredentials("https://far.example.org", {}).headers() == {}


@pytest.mark.parametrize("value", ["two words", "line\nbreak", "é"])
def test_a_token_that_is_none(value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPTIMAS_KFP_TOKEN", value)
    with pytest.raises(EnvironmentNotReady, match="OPTIMAS_KFP_TOKEN holds no token") as caught:
        FoundCredentials("https://kfp.example.org", {})
    assert value not in str(caught.value)
    monkeypatch.delenv("OPTIMAS_KFP_TOKEN")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "absent"))
    with pytest.raises(EnvironmentNotReady, match="token file .*absent cannot be read"):
        FoundCredentials("https://kfp.example.org", {})


def test_the_context_of_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(os.environ["HOME"]) / ".config/kfp/context.json"
    place.parent.mkdir(parents=True)
    place.write_text('{"namespace": "alice", "client_authentication_cookie": "authservice_session=abcdefgh"}')
    with connect(KfpHost("https://kfp.example.org")) as api:
        assert api._namespace == "alice" and api._http._credentials.headers() == {"Cookie": "authservice_session=abcdefgh"}
        assert api._http._credentials.secrets() == ("authservice_session=abcdefgh",)
    with connect(KfpHost("https://kfp.example.org", "bob")) as api:
        assert api._namespace == "bob"
    place.write_text('{"client_authentication_header_name": "X-Auth", "client_authentication_header_value": "abcdefgh"}')
    with connect(KfpHost("https://kfp.example.org")) as api:
        assert api._http._credentials.headers() == {"X-Auth": "abcdefgh"}
    for damaged in ("{", "[]"):
        place.write_text(damaged)
        with pytest.raises(EnvironmentNotReady, match=r"context\.json cannot be read"):
            host_of(KfpHost("https://kfp.example.org"))


def test_a_port_forward_ends_with_the_block(kubectl: Callable[[str], None], tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    kubectl(f'echo "$$ $*" > {seen}; echo "Forwarding from 127.0.0.1:40002 -> 8888"; exec /bin/sleep 60')
    with connect(KfpHost(service_namespace="pipelines")) as api:
        pid, arguments = seen.read_text().strip().split(" ", 1)
        assert arguments == "port-forward --address 127.0.0.1 -n pipelines svc/ml-pipeline :8888" and api.host.endswith(":40002")
        os.kill(int(pid), 0)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_a_port_forward_that_cannot_be_says_why(kubectl: Callable[[str], None]) -> None:
    kubectl("echo 'Error from server (NotFound): services \"ml-pipeline\" not found' >&2; exit 1")
    with pytest.raises(EnvironmentNotReady, match=r"svc/ml-pipeline in namespace kubeflow: Error from server .*not found.*--kfp-namespace"):
        host_of(KfpHost())
