"""What is public, that importing it is light, and that each command's help ends with an example."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

PACKAGES = ["optimas_core.deploy", "optimas_core.launchers.kfp_api"]
HEAVY = ("torch", "kfp", "kfp_server_api", "kubernetes", "httpx2", "boto3", "cronsim", "yaml")


@pytest.mark.parametrize("name", PACKAGES)
def test_everything_that_deploy_names_is_there(name: str) -> None:
    module = importlib.import_module(name)
    assert sorted(set(module.__all__)) == sorted(module.__all__) and all(getattr(module, item) is not None for item in module.__all__)


def test_importing_deploy_loads_nothing_heavy() -> None:
    code = f"import sys, {', '.join(PACKAGES)}\nprint(*sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", ["submit", "cancel", "schedule"])
def test_each_cluster_command_has_an_example(optimas: Callable[..., Any], name: str) -> None:
    said = optimas(name, "--help")
    assert said.code == 0 and f"Example: optimas {name} " in said.out.strip().splitlines()[-1]
