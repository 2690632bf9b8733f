"""The joint configuration v = (v_1, …, v_K): plain JSON values, one mapping of knobs for each component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optimas_core.canonical import canonical_json, digest
from optimas_core.errors import ArtifactCorrupt


@dataclass(frozen=True)
class Configuration:
    """Immutable; a change is a new value. Equal content has an equal digest whatever the order of its keys."""

    knobs: Mapping[str, Mapping[str, Any]]

    def of(self, component: str) -> Mapping[str, Any]:
        """v_k: the knobs of one component (empty where it has none)."""
        return self.knobs.get(component, {})

    def replace(self, component: str, values: Mapping[str, Any]) -> Configuration:
        """A copy in which the named knobs of `component` have other values."""
        changed = {**self.of(component), **values}
        return Configuration({**self.knobs, component: changed})

    @property
    def digest(self) -> str:
        return digest(self.knobs)

    def component_digest(self, component: str) -> str:
        return digest(self.of(component))

    def differs_in(self, other: Configuration) -> list[str]:
        """Names of the components whose knobs differ, sorted."""
        names = sorted(set(self.knobs) | set(other.knobs))
        return [name for name in names if canonical_json(self.of(name)) != canonical_json(other.of(name))]

    def to_json(self) -> dict[str, Any]:
        return {name: dict(values) for name, values in self.knobs.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Mapping[str, Any]]) -> Configuration:
        """Raises: ArtifactCorrupt: it is not one object of knobs for each component."""
        if not isinstance(data, Mapping) or not all(isinstance(values, Mapping) for values in data.values()):
            raise ArtifactCorrupt("a configuration is not an object of knobs for each component.", remedy="Restore it from a copy.")
        return cls({name: dict(values) for name, values in data.items()})
