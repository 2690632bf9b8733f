"""No pickle is ever loaded: nothing of ours imports a pickling module or calls a loader that would use one.

(tests/local/controller/test_damaged_artifacts.py runs a whole run that ends as soon as anything is unpickled.)
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
SETTINGS = {("allow_pickle", "True"), ("use_safetensors", "False")}
# Loaders that unpickle unless told otherwise; safetensors has a `load` of its own.
LOADERS = {"torch.load", "torch.save", "np.load", "numpy.load", "pd.read_pickle", "pandas.read_pickle"}
FILES = sorted(path for folder in ("optimas_core", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py"))


def offences(text: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in LOADERS:
            found.append(ast.unparse(node.func))
        elif isinstance(node, ast.keyword) and (node.arg, ast.unparse(node.value)) in SETTINGS:
            found.append(node.arg or "")
        found += [name for name in names if name.split(".")[0] in MODULES]
    return found


@pytest.mark.parametrize(
    "text",
    ["import pickle", "from cloudpickle import loads", "torch.load(f)", "np.load(f, allow_pickle=True)", "load(f, use_safetensors=False)"],
)
def test_the_search_finds_them(text: str) -> None:
    assert offences(text)


def test_nothing_of_ours_unpickles() -> None:
    assert len(FILES) > 100
    assert {str(path.relative_to(ROOT)): found for path in FILES if (found := offences(path.read_text()))} == {}
