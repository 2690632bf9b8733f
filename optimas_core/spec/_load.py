"""run.yaml to RunSettings, with one clear sentence for each mistake."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from optimas_core.errors import SpecError
from optimas_core.spec._settings import RunSettings


def load_run_settings(path: Path) -> RunSettings:
    """Read and check run.yaml.

    Raises:
        SpecError: the file is absent or not YAML, has an unknown key or a value of the wrong kind; names the key and the file.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"{path} does not exist.", remedy="Give the path of a run.yaml, or write one with `optimas init`.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read: {error}.", remedy="Give a readable UTF-8 file.") from None
    try:
        data = yaml.safe_load(text)
    except Exception as error:  # a tag's constructor raises what it likes: KeyError for `!!bool x`
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise SpecError(f"{path}{line} is not valid YAML.", remedy="Mend the indentation or the quotes there.") from None
    if not isinstance(data, dict):
        raise SpecError(f"{path} holds no mapping of keys.", remedy="Start it with `system: module:function`.")
    return freeze(data, where=str(path))


def freeze(data: dict[str, Any], *, where: str) -> RunSettings:
    """Check a mapping as a run spec.

    Raises:
        SpecError: as `load_run_settings`.
    """
    try:
        return RunSettings.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        message, remedy = _sentence(first, where)
        raise SpecError(message, remedy=remedy) from None
    except RecursionError:
        raise SpecError(f"{where} is nested too deeply.", remedy="Use the documented keys only.") from None


def _sentence(problem: Any, where: str) -> tuple[str, str]:
    location = [part for part in problem["loc"] if part not in ("strict", "paired_sequential", "uniform", "round_robin", "gain")]
    key = ".".join(str(part)[:80] for part in location) or "the top level"
    if problem["type"] == "extra_forbidden":
        names = _known_keys(location[:-1])
        close = get_close_matches(str(location[-1]), names, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known keys there: {', '.join(names)}."
        return f"{where}: unknown key {key!r}.", hint
    if problem["type"] == "missing":
        return f"{where}: key {key!r} is missing.", "Add it; `optimas init` writes a complete example."
    return f"{where}: {key!r}: {problem['msg']}.", "Correct the value."


def _known_keys(location: list[Any]) -> list[str]:
    model: Any = RunSettings
    for part in location:
        field = getattr(model, "model_fields", {}).get(str(part))
        if field is None:
            return []
        model = field.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            options = [m for m in getattr(model, "__args__", ()) if isinstance(m, type) and issubclass(m, BaseModel)]
            return sorted({name for option in options for name in option.model_fields})
    return sorted(getattr(model, "model_fields", {}))
