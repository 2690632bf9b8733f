"""Compile every pipeline, or with --check say which compiled file is not what its source compiles to (exit code 1)."""

import argparse
import sys
import tempfile
from pathlib import Path

from kfp import compiler

from pipelines.controller import controller_of
from pipelines.iteration import iteration
from pipelines.recurring import recurring_of
from pipelines.sealed_test import sealed_test_of
from pipelines.warm_up import warm_up

PIPELINES = {
    "warm_up": warm_up,
    "iteration": iteration,
    "sealed_test": sealed_test_of,
    "controller": controller_of,
    "recurring": recurring_of,
}
HERE = Path(__file__).parent


def compile_to(folder: Path) -> None:
    for name, pipeline in PIPELINES.items():
        compiler.Compiler().compile(pipeline, str(folder / f"{name}.yaml"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python -m pipelines --check")
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        compile_to(HERE)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        compile_to(Path(folder))
        stale = [name for name in PIPELINES if not _same(HERE / f"{name}.yaml", Path(folder) / f"{name}.yaml")]
    for name in stale:
        print(f"pipelines/{name}.yaml is not what pipelines/{name}.py compiles to: run `make pipelines`.", file=sys.stderr)
    return 1 if stale else 0


def _same(kept: Path, made: Path) -> bool:
    return kept.is_file() and kept.read_text(encoding="utf-8") == made.read_text(encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
