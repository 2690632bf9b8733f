"""`optimas manifests`: the accounts and rights that runs on a cluster need, as YAML for `kubectl apply -f -`."""

from __future__ import annotations

import sys

from optimas_core.deploy import AccessSettings, access_manifests


def manifests_yaml(settings: AccessSettings) -> str:
    """All objects, one YAML document each; reads the same each time."""
    import yaml

    return "".join("---\n" + yaml.safe_dump(manifest, sort_keys=False) for manifest in access_manifests(settings))


def print_manifests(namespace: str, *, multi_user: bool, launcher_secret: str) -> None:
    """Write them to standard output."""
    sys.stdout.write(manifests_yaml(AccessSettings(namespace, multi_user, launcher_secret)))
