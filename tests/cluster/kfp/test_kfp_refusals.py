"""Bad input against a real server: refused in one sentence, before anything is started."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from typing import Any

import pytest

from optimas_core.deploy import read_pipeline
from optimas_core.errors import EnvironmentNotReady, SpecError
from optimas_core.launchers import compiled
from optimas_core.launchers.kfp_api import KfpHost, connect


@pytest.fixture
def refused(kubeflow: Any, tmp_path: Any) -> Any:
    """What `optimas submit` says and its exit code; nothing may have been started."""
    run_yaml = kubeflow.project(tmp_path / "project", "none")

    def run(*options: str, settings: dict[str, str] | None = None, **changed: Any) -> tuple[str, int]:
        command = replace(kubeflow, **changed).command(run_yaml, kubeflow.workspace("refused"), *options, settings=settings)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
        assert kubeflow.runs() == [] and done.stdout == ""
        return done.stderr, done.returncode

    return run


@pytest.mark.parametrize(
    ("host", "named"),
    [("http://127.0.0.1:9", "127.0.0.1:9"), ("http://no-such-name.invalid:8888", "no-such-name.invalid"), ("ftp://x", "ftp://x")],
)
def test_a_wrong_host_is_named(refused: Any, host: str, named: str) -> None:
    said, code = refused(host=host)
    assert code != 0 and named in said and "Traceback" not in said


def test_another_server_is_no_kubeflow(refused: Any, kfp_store: Any) -> None:
    """The S3 store answers HTTP too."""
    said, code = refused(host=os.environ["AWS_ENDPOINT_URL"])
    assert code != 0 and "is it Kubeflow Pipelines?" in said and "Traceback" not in said


def test_a_parameter_of_more_than_100_kB_is_refused_here(refused: Any) -> None:
    said, code = refused(settings={"node_selector": '{"a": "' + "x" * 100_001 + '"}'})
    assert code != 0 and "node_selector" in said and "bytes" in said


def test_a_missing_bucket_is_named(kubeflow: Any, tmp_path: Any) -> None:
    run_yaml = kubeflow.project(tmp_path / "project", "none")
    command = kubeflow.command(run_yaml, "s3://optimas-no-such-bucket/x")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode != 0 and "optimas-no-such-bucket" in done.stderr and "Traceback" not in done.stderr
    assert kubeflow.runs() == []


def test_the_server_says_its_version_and_an_sdk_that_is_newer_is_refused(kfp_host: str) -> None:
    sdk = read_pipeline(compiled("controller")).sdk_version
    with connect(KfpHost(kfp_host)) as api:
        server = api.check(sdk_version=sdk).version
        if not re.match(r"v?\d", server):  # "unknown" where it was built without its tag
            pytest.skip("this server does not know its own version")
        with pytest.raises(EnvironmentNotReady, match=r"99\.0"):
            api.check(sdk_version="99.0.0")


def test_a_parameter_that_no_server_would_take_is_not_sent(kubeflow: Any) -> None:
    api = kubeflow.api
    experiment_id = api.ensure_experiment(kubeflow.experiment)
    ids = api.ensure_pipeline_version("optimas-sealed-test", compiled("sealed_test"))
    with pytest.raises(SpecError, match="bytes"):
        api.create_run_once(name="large", experiment_id=experiment_id, pipeline=ids, parameters={"before": "x" * 100_001})
    assert kubeflow.runs() == []


def test_without_the_right_to_make_experiments_it_says_so(api: Any, kubeflow: Any, refused: Any, monkeypatch: Any) -> None:
    if not api.check().multi_user:
        pytest.skip("this installation serves one user and asks nobody for rights")
    monkeypatch.setenv("OPTIMAS_KFP_TOKEN", "nobody")
    said, code = refused()
    assert code != 0 and ("401" in said or "403" in said)
