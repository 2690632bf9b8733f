"""run.yaml to RunSettings, with one clear sentence for each mistake."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from optimas_core.errors import SpecError
from optimas_core.spec._settings import RunSettings

_MESSAGE_CHARS = 300
_MAX_INT = 2**63 - 1


def load_run_settings(path: Path) -> RunSettings:
    """Read and check run.yaml.

    Raises:
        SpecError: the file is absent or not YAML, has an unknown key or a value of the wrong kind; names the key and the file.
    """
    from optimas_core.spec._yaml import MAX_BYTES, DuplicateKey, parse_yaml

    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode() if len(data) <= MAX_BYTES else None
    except FileNotFoundError:
        raise SpecError(f"{path} does not exist.", remedy="Give the path of a run.yaml, or write one with `optimas init`.") from None
    except (OSError, ValueError) as error:
        raise SpecError(f"{path} cannot be read: {error}.", remedy="Give a readable UTF-8 file.") from None
    if text is None:
        raise SpecError(f"{path} has more than {MAX_BYTES} bytes.", remedy="Use the documented keys only; data lies in files of its own.")
    try:
        found = parse_yaml(text)
    except DuplicateKey as error:
        raise SpecError(f"{path}{_line(error)}: key {_short(error.problem)} stands twice.", remedy="Keep one of them.") from None
    except Exception as error:  # a tag's constructor raises what it likes: KeyError for `!!bool x`
        raise SpecError(f"{path}{_line(error)} is not valid YAML.", remedy="Mend the indentation or the quotes there.") from None
    if not isinstance(found, dict):
        raise SpecError(f"{path} holds no mapping of keys.", remedy="Start it with `system: module:function`.")
    return freeze(found, where=str(path))


def freeze(data: dict[str, Any], *, where: str) -> RunSettings:
    """Check a mapping as a run spec.

    Raises:
        SpecError: as `load_run_settings`.
    """
    problem = _unusable(data)
    if problem:
        raise SpecError(f"{where} holds {problem}.", remedy="Correct that value.")
    try:
        return RunSettings.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        message, remedy = _sentence(first, where)
        raise SpecError(message, remedy=remedy) from None
    except RecursionError:
        raise SpecError(f"{where} is nested too deeply.", remedy="Use the documented keys only.") from None


def _unusable(value: Any) -> str:
    """What no setting can be and nothing below could keep: "" where there is no such thing.

    An alias may make a value contain itself, or stand in a thousand places: each container is looked at once.
    """
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if "\0" in item:
                return "a text with a NUL character"
            try:
                item.encode()
            except UnicodeEncodeError:
                return "a text that has no UTF-8"
        elif isinstance(item, int) and abs(item) > _MAX_INT:
            return "a number of more than 64 bits"
        elif isinstance(item, dict | list | tuple | set) and id(item) not in seen:
            seen.add(id(item))
            waiting += [*item.keys(), *item.values()] if isinstance(item, dict) else [*item]
    return ""


def _sentence(problem: Any, where: str) -> tuple[str, str]:
    location = [part for part in problem["loc"] if part not in ("strict", "paired_sequential", "uniform", "round_robin", "gain")]
    key = ".".join(str(part)[:80] for part in location)[:200] or "the top level"
    if problem["type"] == "extra_forbidden":
        names = _known_keys(location[:-1])
        close = get_close_matches(str(location[-1]), names, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known keys there: {', '.join(names)}."
        return f"{where}: unknown key {key!r}.", hint
    if problem["type"] == "missing":
        return f"{where}: key {key!r} is missing.", "Add it; `optimas init` writes a complete example."
    return f"{where}: {key!r}: {_one_line(problem['msg'])}.", "Correct the value."


def _one_line(text: str) -> str:
    """pydantic quotes the value it was given, whatever that holds."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain if len(plain) <= _MESSAGE_CHARS else plain[: _MESSAGE_CHARS - 1] + "…"


def _short(key: str | None) -> str:
    return repr((key or "")[:80])


def _line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f" line {mark.line + 1}" if mark else ""


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
