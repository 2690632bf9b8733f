"""Settings that Kubeflow Pipelines fixes when a pipeline is compiled, set in the compiled YAML before it is uploaded.

KFP 2.17 has no parameter for them. The YAML that carries them has another digest, so it is another version of the pipeline; with none of
them the YAML goes out byte for byte as it was compiled. The controller's pipeline gets them, and every run that its task starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optimas_core.errors import SpecError

ATTEMPTS, BACKOFF = "OPTIMAS_TASK_ATTEMPTS", "OPTIMAS_TASK_BACKOFF_S"
_INT32_MOST = 2**31 - 1
# The loop lives as long as the whole run does: a limit for one task is none for it.
_CONTROLLER = "exec-controller"


@dataclass(frozen=True, slots=True)
class PodSetting:
    """One setting: what it takes (`kind` as KFP names it), its bounds, and for people what stands without it and what it does."""

    name: str
    kind: str
    default: str
    meaning: str
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = _INT32_MOST

    def checked(self, value: Any) -> Any:
        """Raises: SpecError: another type, or out of bounds."""
        if self.choices:
            if value not in self.choices:
                raise self._wrong(value, f"one of {', '.join(self.choices)}", self.choices[0])
            return value
        whole = self.kind == "NUMBER_INTEGER"
        # From a pipeline's dict a whole number may come back as 3600.0.
        number = not isinstance(value, bool) and isinstance(value, int | float) and (not whole or float(value).is_integer())
        if not number or not self.low <= value <= self.high:
            kind = "a whole number" if whole else "a number"
            raise self._wrong(value, f"{kind} from {self.low:g} to {self.high:.10g}", f"{max(self.low, 1):g}")
        return int(value) if whole else float(value)

    def _wrong(self, value: Any, wanted: str, example: str) -> SpecError:
        shown = repr(value)[:80]
        return SpecError(f"{self.name} = {shown} is not {wanted}.", remedy=f"Give for example --set {self.name}={example}.")


POD_SETTINGS: tuple[PodSetting, ...] = (
    PodSetting(
        "image_pull_policy", "STRING", "the cluster's", "when nodes pull the images of tasks", choices=("Always", "IfNotPresent", "Never")
    ),
    PodSetting("ttl_s", "NUMBER_INTEGER", "the installation's", "seconds that pods and logs of an ended KFP run are kept", low=60),
    PodSetting("deadline_s", "NUMBER_INTEGER", "none", "seconds after which a KFP run is ended as failed", low=60),
    PodSetting("task_deadline_s", "NUMBER_INTEGER", "none", "the same for each task but the controller's", low=60),
    PodSetting("task_attempts", "NUMBER_INTEGER", "3 (controller: 5)", "tries inside a task where infrastructure fails", low=1, high=20),
    PodSetting(
        "task_backoff_s",
        "NUMBER_DOUBLE",
        "2 (controller: 5)",
        "first wait between them at most; it doubles, to 30 times this",
        low=0.1,
        high=600,
    ),
)
_BY_NAME = {setting.name: setting for setting in POD_SETTINGS}


def pod_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `given` that are such settings, checked.

    Raises:
        SpecError: a value of another type or out of its bounds, or one that KFP cannot set; names it.
    """
    if "priority_class" in given:
        raise SpecError(
            "Kubeflow Pipelines 2.17 has no field for the priority class of a run's pods.",
            remedy="Make a PriorityClass the cluster's default (globalDefault), or let the administrator set "
            'COMPILED_PIPELINE_SPEC_PATCH={"podPriorityClassName": "NAME"} on the pipelines API server.',
        )
    return {name: _BY_NAME[name].checked(value) for name, value in given.items() if name in _BY_NAME}


def with_pod_settings(compiled: bytes, given: Mapping[str, Any]) -> bytes:
    """The compiled pipeline with those of `given` that are such settings; the same bytes where none is.

    Raises:
        SpecError: as `pod_settings`.
    """
    wanted = pod_settings(given)
    if not wanted:
        return compiled
    import yaml

    text = compiled.decode()
    body, *platforms = yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    platform = platforms[0] if platforms and platforms[0] else {}
    kubernetes = platform.setdefault("platforms", {}).setdefault("kubernetes", {})
    _set_run(kubernetes, wanted)
    pods = kubernetes.setdefault("deploymentSpec", {}).setdefault("executors", {})
    for name, executor in ((body.get("deploymentSpec") or {}).get("executors") or {}).items():
        _set_pod(pods.setdefault(name, {}), wanted, alone=name == _CONTROLLER)
        _set_environment(executor["container"], wanted)
    lines = text.splitlines(keepends=True)
    comment = "".join(lines[: next(index for index, line in enumerate(lines) if not line.startswith("#"))])
    return (comment + yaml.safe_dump_all([body, platform], default_flow_style=False, sort_keys=True)).encode()


def _set_run(kubernetes: dict[str, Any], wanted: Mapping[str, Any]) -> None:
    """What KFP makes of the Workflow: `ttlStrategy.secondsAfterCompletion` and `activeDeadlineSeconds`."""
    fields = {"resourceTtlOnCompletion": "ttl_s", "activeDeadlineSeconds": "deadline_s"}
    found = {field: wanted[name] for field, name in fields.items() if name in wanted}
    if found:
        kubernetes.setdefault("pipelineConfig", {}).update(found)


def _set_pod(pod: dict[str, Any], wanted: Mapping[str, Any], *, alone: bool) -> None:
    if "image_pull_policy" in wanted:
        pod["imagePullPolicy"] = wanted["image_pull_policy"]
    if "task_deadline_s" in wanted and not alone:
        pod["activeDeadlineSeconds"] = wanted["task_deadline_s"]


def _set_environment(container: dict[str, Any], wanted: Mapping[str, Any]) -> None:
    variables = {ATTEMPTS: "task_attempts", BACKOFF: "task_backoff_s"}
    ours = [{"name": variable, "value": f"{wanted[name]:g}"} for variable, name in variables.items() if name in wanted]
    if ours:
        container["env"] = [item for item in container.get("env", []) if item["name"] not in variables] + ours
