"""Where the API is and as whom we ask: the first of these that is there.

    address    --host; OPTIMAS_KFP_HOST; KF_PIPELINES_ENDPOINT; inside a cluster its service; a port-forward with the kubeconfig
    identity   OPTIMAS_KFP_TOKEN; the projected service account token (KF_PIPELINES_SA_TOKEN_PATH or KFP's own path), read again
               for each request, since it rotates; cookie and header of ~/.config/kfp/context.json; none

A token goes over https, to this machine, or to an address of the cluster, nowhere else.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from optimas_core.canonical import parse_json
from optimas_core.errors import EnvironmentNotReady
from optimas_core.launchers.kfp_api._client import KfpApi
from optimas_core.launchers.kfp_api._http import KfpHttp
from optimas_core.launchers.kfp_api._port_forward import forwarded, kubectl_can_reach

_PORT = 8888
_CONTEXT = Path("~/.config/kfp/context.json")
_PROJECTED_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_MAX_FILE_BYTES = 64 << 10
_REMEDY = "Give --host, or set OPTIMAS_KFP_HOST, or install kubectl with a kubeconfig that reaches the cluster."


@dataclass(frozen=True, slots=True)
class KfpHost:
    """What a user says about the installation. `namespace` is their own ("": the context file's, or none); `service_namespace` is KFP's."""

    host: str | None = None
    namespace: str = ""
    service_namespace: str = "kubeflow"


@contextmanager
def connect(where: KfpHost, *, deadline_s: float = 120.0) -> Iterator[KfpApi]:
    """The API while the block runs; a port-forward that was needed for it ends with it. Nothing is asked of the server yet.

    Raises:
        EnvironmentNotReady: no address can be found, or it is none, or a token would travel in the clear.
    """
    context = _kfp_context()
    namespace = where.namespace or context.get("namespace", "")
    named = where.host or os.environ.get("OPTIMAS_KFP_HOST") or os.environ.get("KF_PIPELINES_ENDPOINT")
    if named:
        host, forwarding = _checked_host(named), None
    elif in_cluster():
        host, forwarding = f"http://ml-pipeline.{where.service_namespace}.svc.cluster.local:{_PORT}", None
    elif kubectl_can_reach():
        forwarding = forwarded(where.service_namespace, "ml-pipeline", _PORT)
        host = ""
    else:
        raise EnvironmentNotReady("no address of Kubeflow Pipelines is known.", remedy=_REMEDY)
    if forwarding is None:
        yield from _opened(host, context, namespace, deadline_s)
    else:
        with forwarding as host:
            yield from _opened(host, context, namespace, deadline_s)


def _opened(host: str, context: Mapping[str, str], namespace: str, deadline_s: float) -> Iterator[KfpApi]:
    api = KfpApi(KfpHttp(host, FoundCredentials(host, context), deadline_s=deadline_s, direct=_is_near(host)), namespace=namespace)
    try:
        yield api
    finally:
        api.close()


def in_cluster() -> bool:
    """Whether this process is in a pod that knows its cluster."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and _POD_NAMESPACE.is_file()


class FoundCredentials:
    """Headers for one host. Raises at construction EnvironmentNotReady: a secret would go in the clear to a far host."""

    def __init__(self, host: str, context: Mapping[str, str]) -> None:
        self._near = _is_near(host)
        self._context = context
        secret = self.secrets()
        if secret and not self._near and urlsplit(host).scheme != "https":
            raise EnvironmentNotReady(f"a token would go to {host} in the clear.", remedy="Use https, or a port-forward.")

    def headers(self) -> dict[str, str]:
        token = self._token()
        if token:
            return {"Authorization": f"Bearer {token}"}
        found = {}
        if self._context.get("client_authentication_cookie"):
            found["Cookie"] = self._context["client_authentication_cookie"]
        name, value = self._context.get("client_authentication_header_name"), self._context.get("client_authentication_header_value")
        if name and value:
            found[name] = value
        return found

    def secrets(self) -> tuple[str, ...]:
        values = (self._token(), *(self._context.get(f"client_authentication_{key}", "") for key in ("cookie", "header_value")))
        return tuple(value for value in values if value)

    def _token(self) -> str:
        given = os.environ.get("OPTIMAS_KFP_TOKEN", "").strip()
        if given:
            return _header_value(given, "OPTIMAS_KFP_TOKEN")
        named = os.environ.get("KF_PIPELINES_SA_TOKEN_PATH")
        path = Path(named) if named else _PROJECTED_TOKEN
        if not named and not (self._near and path.is_file()):
            return ""  # what a pod was given for its own cluster is not shown to another
        try:
            return _header_value(path.read_text(encoding="ascii").strip(), str(path))
        except (OSError, ValueError) as error:
            raise EnvironmentNotReady(
                f"the token file {path} cannot be read ({type(error).__name__}).",
                remedy="Correct KF_PIPELINES_SA_TOKEN_PATH.",
            ) from None


def _header_value(token: str, where: str) -> str:
    if not token.isascii() or not token.isprintable() or " " in token:
        raise EnvironmentNotReady(f"{where} holds no token: it has spaces or control characters.", remedy="Give the bare token.")
    return token


def _kfp_context() -> dict[str, str]:
    """The texts of the SDK's own context file; empty where there is none.

    Raises:
        EnvironmentNotReady: it is there and damaged.
    """
    path = _CONTEXT.expanduser()
    try:
        data = path.read_bytes()[:_MAX_FILE_BYTES]
        found = parse_json(data)
        if not isinstance(found, dict):
            raise ValueError("no object")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise EnvironmentNotReady(f"{path} cannot be read ({type(error).__name__}).", remedy="Mend or delete that file.") from None
    return {str(key): value for key, value in found.items() if isinstance(value, str) and value.isprintable()}


def _checked_host(text: str) -> str:
    """Raises: EnvironmentNotReady: no http address, or one that holds a password."""
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        usable = text.isprintable() and not parts.query and not parts.fragment and parts.port != 0
    except ValueError:  # a port that is none
        parts, usable = urlsplit(""), False
    if not usable or parts.scheme not in ("http", "https") or not parts.hostname:
        shown = text.rpartition("@")[2].partition("?")[0][:120]
        raise EnvironmentNotReady(f"{shown!r} is no address of a server.", remedy="Give http://name:port or https://name, without a query.")
    if parts.username or parts.password:
        raise EnvironmentNotReady("the host's address holds a user or a password.", remedy="Set OPTIMAS_KFP_TOKEN instead.")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _is_near(host: str) -> bool:
    """This machine, or an address that exists only inside a cluster."""
    name = urlsplit(host).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith((".svc", ".svc.cluster.local", ".cluster.local")) or "." not in name
