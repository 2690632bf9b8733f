"""What is committed may not depend on the version of Python: from 3.12 on `sum` of floats compensates its rounding, `fsum` always did."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import optimas_core

ROOT = Path(optimas_core.__file__).parent
# Whose results are committed or decide what is.
PACKAGES = ("acceptance", "controller", "optimizers", "preferences", "stages")
# Counts: sums of whole numbers are exact.
WHOLE = {
    ("stages/_preference_tables.py", "len(record.pairs)"),
    ("preferences/_collect.py", "len(runs)"),
    ("preferences/_collect.py", "len(cands)"),
    ("acceptance/_paired_sequential.py", "looks"),
}


@pytest.mark.parametrize("package", PACKAGES)
def test_floats_are_summed_exactly(package: str) -> None:
    found = set()
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "sum":
                summed = node.args[0].elt if isinstance(node.args[0], ast.GeneratorExp) else node.args[0]
                if isinstance(summed, ast.Constant) and isinstance(summed.value, int):
                    continue
                if isinstance(summed, ast.Compare):
                    continue
                found.add((path.relative_to(ROOT).as_posix(), ast.unparse(summed)))
    assert found <= WHOLE, "use math.fsum for floats; add a sum of whole numbers to WHOLE"
