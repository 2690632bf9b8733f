"""What Kubeflow Pipelines costs above the stages themselves, on the installation that the environment names.

    python benchmarks/kfp_overhead.py [--iterations 1] [--shards 2] [--latency-ms 1000] [--quick] [--json]

First a whole run is submitted (`optimas submit`), of the scripted project in benchmarks/_kfp with a model in the cluster that answers
after 100 ms. Each KFP run is a row: wall time, seconds in which at least one stage's container ran, the rest ("above"), pods in all and
of stages, size of its Workflow object (a cluster refuses more than about 1.5 MB). What a stage's container takes before our code begins
(interpreter, imports, torch) counts as the stage's: the row "one process" is the same run in one pod, without any of it.

Then the first preference data alone (warm-up) with 1, 2 and 4 shards, each of 4 calls in flight, while the model takes `--latency-ms`:
"measuring" is from the first shard's start to the last one's end. On a node with few cores the starts of shards compete.

benchmarks/_kfp/place.py says which variables name the installation, and what is made there and removed again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _kfp.observed import observed, stretch_s
from _kfp.place import HERE, Place, kubectl, place
from _speed.table import Column, Found

from optimas_core.artifacts import Workspace, pack_bundle, put_bundle
from optimas_core.launchers import ClusterSettings, KubeflowPipelines
from optimas_core.launchers.kfp_api import KfpApi, KfpHost, connect
from optimas_core.stages import load_project, open_run

COLUMNS = (
    Column("what", "what"),
    Column("wall_s", "wall s", ".0f"),
    Column("stages_s", "stages s", ".0f"),
    Column("above_s", "above s", ".0f"),
    Column("pods", "pods"),
    Column("stage_pods", "of stages"),
    Column("object_kb", "object kB", ".0f"),
    Column("measuring_s", "measuring s", ".0f"),
)
ACCOUNT = "optimas"


def whole_run(there: Place, api: KfpApi, folder: Path, iterations: int, shards: int) -> list[dict[str, Any]]:
    """A row for each KFP run of a submitted run, and one for the same run in one process. Raises: SystemExit: it failed."""
    run_yaml = there.project(folder / "whole", 100, schedule={"iterations": iterations, "selection": {"kind": "round_robin"}})
    settings = [part for name, value in (there.settings | {"shards": shards}).items() for part in ("--set", f"{name}={value}")]
    where = ["--host", there.host, "--experiment", there.name, "--workspace", f"s3://{there.bucket}/whole", "--wait"]
    command = [sys.executable, "-m", "optimas_core.cli", "submit", str(run_yaml), *where, *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the run failed:\n{done.stderr[-2000:]}")
    experiment_id = api.find_experiment(there.name) or ""
    runs = sorted(api.list_runs(experiment_id, "colours"), key=lambda run: run.created_at)
    rows = [row(run.name.removeprefix("colours-"), there, run.run_id) for run in runs]
    return [*rows, {"what": "one process", "wall_s": one_process_s(there, run_yaml)}]


def row(what: str, there: Place, kfp_run_id: str) -> dict[str, Any]:
    seen = observed(there.workflow(kfp_run_id), there.pods(kfp_run_id))
    if what == "colours":  # its controller task waits for the others: its container's time is no work
        return {
            "what": "the whole run",
            "wall_s": seen.wall_s,
            "pods": seen.pods,
            "stage_pods": seen.stage_pods,
            "object_kb": seen.object_kb,
        }
    fields = ("wall_s", "stages_s", "above_s", "pods", "stage_pods", "object_kb")
    return {"what": what} | {name: getattr(seen, name) for name in fields}


def one_process_s(there: Place, run_yaml: Path) -> float:
    """Seconds of a pod that does the same run alone, its start included."""
    address = f"s3://{there.bucket}/one"
    open_run(load_project(run_yaml, workspace=address))
    bundle = put_bundle(Workspace.open(address), pack_bundle(run_yaml.parent, run_file="run.yaml"))
    program, settings = (HERE / "one_process.py").read_text(encoding="utf-8"), there.settings
    container = {
        "name": "main",
        "image": settings["train_image"],
        "command": ["python", "-c", program, address, "colours", bundle],
        "envFrom": [{"secretRef": {"name": settings[name]}} for name in ("s3_secret", "llm_secret")],
        "resources": {"limits": {"cpu": settings["cpu"], "memory": settings["memory"]}},
    }
    metadata = {"name": f"{there.name}-one", "namespace": there.namespace}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"restartPolicy": "Never", "containers": [container]}}
    began_s = time.monotonic()
    kubectl("apply", "-f", "-", given=json.dumps(pod))
    try:
        while (phase := _phase(metadata)) not in ("Succeeded", "Failed"):
            time.sleep(0.5)
        took_s = time.monotonic() - began_s
        if phase == "Failed":
            raise SystemExit("the run in one process failed:\n" + kubectl("logs", metadata["name"], "-n", there.namespace, "--tail=20"))
    finally:
        kubectl("delete", "pod", metadata["name"], "-n", there.namespace, "--wait=false")
    return took_s


def _phase(metadata: dict[str, str]) -> str:
    found = json.loads(kubectl("get", "pod", metadata["name"], "-n", metadata["namespace"], "-o", "json"))
    return str(found["status"].get("phase", ""))


def sharded(there: Place, api: KfpApi, folder: Path, shards: int, latency_ms: int) -> dict[str, Any]:
    """The first preference data over so many shards, in a workspace of its own."""
    examples = {"examples": 24, "candidates": 3, "rollouts": 2}
    run_yaml = there.project(folder / f"shards-{shards}", latency_ms, preferences=examples, name=f"shards-{shards}")
    address = f"s3://{there.bucket}/shards-{shards}"
    open_run(load_project(run_yaml, workspace=address))
    bundle = put_bundle(Workspace.open(address), pack_bundle(run_yaml.parent, run_file="run.yaml"))
    name = f"{there.name}-shards-{shards}"
    settings = ClusterSettings(there.name, ACCOUNT, there.settings, poll_s=1.0)
    common = {"workspace": address, "run_id": f"shards-{shards}", "bundle": bundle}
    spread = {"shards": shards, "shard_indexes": list(range(shards))}
    KubeflowPipelines(api, settings).execute("warm_up", name, common | spread)
    (run,) = api.find_runs(name, api.find_experiment(there.name) or "")
    found = row(f"warm-up, {shards} shard{'s' if shards > 1 else ''}", there, run.run_id)
    return found | {"measuring_s": stretch_s(there.pods(run.run_id), "generate-preferences")}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=1)
    parser.add_argument("--shards", type=int, default=2, help="of the whole run")
    parser.add_argument("--latency-ms", type=int, default=1000, help="of the model while shards are compared")
    parser.add_argument("--quick", action="store_true", help="1 and 2 shards only")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    asked = parser.parse_args(arguments)
    counts = (1, 2) if asked.quick else (1, 2, 4)
    with place() as there, connect(KfpHost(there.host)) as api, tempfile.TemporaryDirectory(prefix="kfp-overhead-") as folder:
        rows = whole_run(there, api, Path(folder), asked.iterations, asked.shards)
        rows += [sharded(there, api, Path(folder), shards, asked.latency_ms) for shards in counts]
        facts = {"Kubeflow Pipelines": api.check().version, "limit of a stage": f"{there.settings['cpu']} CPU"}
    Found([], COLUMNS, rows, facts).show(as_json=asked.json)


if __name__ == "__main__":
    main()
