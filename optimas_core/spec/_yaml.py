"""YAML that anyone may have written: no key twice, bounded work.

Imported by `load_run_settings` only, since `import optimas_core` must not wait for yaml.
"""

from __future__ import annotations

from typing import Any

import yaml

MAX_BYTES = 128 << 10
# Merges of merges (`<<: *a`) double with every level.
_MAX_MERGED = 10_000


class DuplicateKey(yaml.MarkedYAMLError):
    """One mapping names a key twice: YAML would silently keep the last."""


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._own_keys_checked: set[int] = set()
        self._merged = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if id(node) not in self._own_keys_checked:  # afterwards it holds the merged ones too, which it may override
            self._own_keys_checked.add(id(node))
            names: set[tuple[str, str]] = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue
                if (key.tag, key.value) in names:
                    raise DuplicateKey(problem=key.value, problem_mark=key.start_mark)
                names.add((key.tag, key.value))
                if key.tag == "tag:yaml.org,2002:merge" and not isinstance(value, yaml.MappingNode):
                    raise yaml.constructor.ConstructorError(problem="a merge of several mappings", problem_mark=key.start_mark)
        super().flatten_mapping(node)
        self._merged += len(node.value)
        if self._merged > _MAX_MERGED:
            raise yaml.constructor.ConstructorError(problem="too many merged keys", problem_mark=node.start_mark)


def parse_yaml(text: str) -> Any:
    """The value of the first and only document.

    Raises:
        DuplicateKey: `problem` is the key.
        Exception: not YAML; a tag's constructor raises what it likes (KeyError for `!!bool x`).
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
