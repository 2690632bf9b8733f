"""Everything that a run leans on is killed while it goes: it ends, with the bytes of one process, and pays twice for no answer it had."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

ARGO, API_SERVER = "app=workflow-controller", "app=ml-pipeline"
CONCURRENCY = 4  # project/run.yaml


@pytest.fixture
def may_kill(kubeflow: Any) -> None:
    if os.environ.get("OPTIMAS_KFP_MAY_KILL") != "1":
        pytest.skip("OPTIMAS_KFP_MAY_KILL is not 1: Argo's controller and the API server may serve others")


def once(found: Callable[[], Any], within_s: float = 600.0) -> Any:
    until = time.monotonic() + within_s
    while not (value := found()):
        assert time.monotonic() < until, "it never came"
        time.sleep(0.3)
    return value


class Killer(threading.Thread):
    """Kills one thing after another, each in another part of the run; `done` names what was killed."""

    def __init__(self, kubeflow: Any, asked: Callable[[], int]) -> None:
        super().__init__(daemon=True)
        self.kubeflow, self.asked, self.done = kubeflow, asked, []
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            self._api_server_while_first_data_is_measured()
            self._stage_while_it_pays()
            self._controller_while_it_waits()
            self._argo_while_the_last_stages_run()
        except BaseException as error:  # also pytest's own: told by the test, not by a thread
            self.failed = error
            print(f"killed no more after {self.done}: {error!r}", flush=True)

    def _api_server_while_first_data_is_measured(self) -> None:
        once(lambda: self.kubeflow.running_pod("colours", "generate-preferences") or self.asked())
        self._kill_labelled(API_SERVER)

    def _stage_while_it_pays(self) -> None:
        pod = once(lambda: self.kubeflow.running_pod("colours-it-0001", "generate-preferences"))
        before = self.asked()  # it still loads: its calls come a few seconds later
        once(lambda: self.asked() > before)
        self.kubeflow.kill(pod)
        self._note("stage")

    def _controller_while_it_waits(self) -> None:
        self.kubeflow.kill(once(lambda: self.kubeflow.running_pod("colours", "controller")))
        self._note("controller")

    def _argo_while_the_last_stages_run(self) -> None:
        once(lambda: self.kubeflow.running_pod("colours-it-0001", "validate-accept"))
        self._kill_labelled(ARGO)

    def _note(self, killed: str) -> None:
        self.done.append(killed)
        print(f"killed: {killed}", flush=True)

    def _kill_labelled(self, label: str) -> None:
        kubeflow = self.kubeflow
        kubeflow.cluster.kubectl("delete", "pod", "-n", kubeflow.namespace, "-l", label, "--grace-period=0", "--force")
        self._note(label)


@pytest.mark.timeout(2400)
def test_a_run_outlives_its_controller_a_stage_argo_and_the_api_server(may_kill: None, kubeflow: Any, whole: Any, begun: Any) -> None:
    workspace, asked_before = begun("killed")
    killer = Killer(kubeflow, lambda: (kubeflow.endpoint.asked("whole") - asked_before).total())
    submitted = kubeflow.submit(whole.project, workspace)
    killer.start()
    ended = kubeflow.wait_ended(submitted["kfp_run_id"], 1500.0)
    assert killer.failed is None, killer.failed
    assert killer.done == [API_SERVER, "stage", "controller", ARGO]
    assert ended.state == "succeeded", f"{ended.errors}\n{kubeflow.logs(ended.run_id)}"
    assert [run.name for run in kubeflow.runs("colours")][-2:] == ["colours-it-0001", "colours-sealed-test"], (
        "attached to, not started again"
    )

    found, states = kubeflow.outcome(workspace)
    assert states == whole.states
    assert found == whole.committed
    asked = kubeflow.endpoint.asked("whole") - asked_before
    twice = asked - whole.asked
    assert not whole.asked - asked, "nothing was left out"
    print(f"asked again: {twice.total()} of {whole.asked.total()}")
    assert twice.total() <= CONCURRENCY, "at most what was in flight when the stage was killed"
