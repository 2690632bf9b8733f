"""The compiled pipelines that the wheel ships, and what may be given to them: checked here, before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from optimas_core.errors import EnvironmentNotReady, SpecError
from optimas_core.launchers import POD_SETTINGS, with_pod_settings

_KINDS: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list, tuple),
    "STRUCT": (dict,),
}


@dataclass(frozen=True, slots=True)
class CompiledPipeline:
    """A pipeline as the server gets it. `parameters` maps each name to (KFP's type, whether it must be given)."""

    name: str
    data: bytes
    sdk_version: str
    parameters: Mapping[str, tuple[str, bool]]
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def with_settings(self, settings: Mapping[str, Any]) -> CompiledPipeline:
        """The same with those of `settings` written into the YAML that are no parameters. Raises: SpecError: a value out of bounds."""
        return replace(self, data=with_pod_settings(self.data, settings))


def read_pipeline(data: bytes) -> CompiledPipeline:
    """What a compiled pipeline declares.

    Raises:
        EnvironmentNotReady: not the compiler's output, or a task of it may be answered from KFP's cache.
    """
    import yaml

    try:
        body = next(iter(yaml.load_all(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))))
        name, sdk, root = body["pipelineInfo"]["name"], str(body.get("sdkVersion", "")), body["root"]
        declared = (root.get("inputDefinitions") or {}).get("parameters") or {}
        parameters = {
            key: (value["parameterType"], not (value.get("isOptional") or "defaultValue" in value)) for key, value in declared.items()
        }
        defaults = {key: value["defaultValue"] for key, value in declared.items() if "defaultValue" in value}
        groups = [root, *(part for part in (body.get("components") or {}).values())]
        cached = [task for group in groups for task, what in ((group.get("dag") or {}).get("tasks") or {}).items() if _is_cached(what)]
    except (yaml.YAMLError, StopIteration, KeyError, TypeError, AttributeError) as error:
        raise EnvironmentNotReady(f"a compiled pipeline cannot be read ({type(error).__name__}).", remedy="Run `make pipelines`.") from None
    if cached:  # KFP's cache answers with artifacts that may be gone, and the client cannot switch it off
        raise EnvironmentNotReady(
            f"task {cached[0]!r} of pipeline {name!r} allows KFP's cache.", remedy="Give it set_caching_options(False) and compile again."
        )
    return CompiledPipeline(name, data, sdk.removeprefix("kfp-"), parameters, defaults)


def _is_cached(task: Mapping[str, Any]) -> bool:
    return bool((task.get("cachingOptions") or {}).get("enableCache"))


def fitting(pipeline: CompiledPipeline, given: Mapping[str, Any], *, complete: bool = True) -> dict[str, Any]:
    """The parameters, if the pipeline takes them all, of those types, and (`complete`) none is missing.

    Raises:
        SpecError: names the parameter.
    """
    for key, value in given.items():
        if key not in pipeline.parameters:
            known = sorted([*pipeline.parameters, *(setting.name for setting in POD_SETTINGS)])
            close = get_close_matches(key, known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"It has: {', '.join(known)}."
            raise SpecError(f"pipeline {pipeline.name!r} has no parameter {key!r}.", remedy=hint)
        kind = pipeline.parameters[key][0]
        wanted = _KINDS.get(kind, (object,))
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted and object not in wanted):
            raise SpecError(f"parameter {key!r} is {type(value).__name__} {str(value)[:80]!r}, not {kind}.", remedy="Correct the value.")
    missing = sorted(key for key, (_, required) in pipeline.parameters.items() if required and key not in given)
    if missing and complete:
        raise SpecError(f"pipeline {pipeline.name!r} needs parameter {missing[0]!r}.", remedy=f"Give it with --set {missing[0]}=….")
    return dict(given)


def parsed_settings(pipeline: CompiledPipeline, texts: Mapping[str, str]) -> dict[str, Any]:
    """Values from a command line (`--set gpus=2`), each read as the type that the pipeline declares.

    Raises:
        SpecError: a text that is no such value; unknown names are `fitting`'s.
    """
    from optimas_core.canonical import parse_json

    kinds = {setting.name: setting.kind for setting in POD_SETTINGS} | {key: kind for key, (kind, _) in pipeline.parameters.items()}
    found: dict[str, Any] = {}
    for key, text in texts.items():
        kind = kinds.get(key, "STRING")
        if kind == "STRING":
            found[key] = text
            continue
        try:
            found[key] = parse_json(text)
        except ValueError:
            raise SpecError(f"--set {key}={text[:80]}: not {kind} in JSON.", remedy='Write for example 2, 0.5, true, ["a"].') from None
    return found
