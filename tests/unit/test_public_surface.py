"""What is public: every `__all__` is importable, importing it is light, the error tree is what its docstring draws."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys

import pytest

import optimas_core
from optimas_core import errors

PACKAGES = [
    "optimas_core",
    "optimas_core.acceptance",
    "optimas_core.artifacts",
    "optimas_core.models",
    "optimas_core.models.scripted",
    "optimas_core.optimizers",
    "optimas_core.preferences",
    "optimas_core.rewards",
    "optimas_core.rollouts",
    "optimas_core.spec",
    "optimas_core.system",
]
HEAVY = (
    "torch",
    "transformers",
    "peft",
    "openai",
    "anthropic",
    "boto3",
    "botocore",
    "pyarrow",
    "datasets",
    "kfp",
    "kubernetes",
    "matplotlib",
)


@pytest.mark.parametrize("name", PACKAGES)
def test_everything_in_all_is_there(name: str) -> None:
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    for item in module.__all__:
        assert getattr(module, item) is not None, item
    with pytest.raises(AttributeError):
        module.no_such_name  # noqa: B018


def test_the_surface_of_the_top_package() -> None:
    assert optimas_core.__all__ == [
        "AdapterSpace",
        "Anthropic",
        "Choice",
        "CompoundSystem",
        "Configuration",
        "Demonstration",
        "Example",
        "Local",
        "ModelChoice",
        "NumberGrid",
        "OpenAI",
        "OpenAICompatible",
        "Prompt",
        "PromptSpace",
        "Scripted",
        "__version__",
        "component",
        "llm",
    ]


def test_the_surface_of_what_tests_and_stages_build_on() -> None:
    from optimas_core import preferences, rollouts, system

    assert {"Budget", "CallCache", "Place", "Rollout", "RolloutEngine", "Spend", "Task", "ordered"} <= set(rollouts.__all__)
    assert {"Collected", "INCUMBENT", "Variant", "collect", "label_pairs", "variants"} <= set(preferences.__all__)
    assert {"CompoundSystem", "Split", "checked_split", "execute", "read_examples", "split_examples"} <= set(system.__all__)


def test_importing_loads_nothing_heavy() -> None:
    code = f"""
import importlib, sys
for name in {PACKAGES!r}:
    importlib.import_module(name)
    print(name, sorted(set(sys.modules) & set({HEAVY!r})))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{name} []" for name in PACKAGES]


def test_the_error_tree_is_the_one_its_docstring_draws() -> None:
    drawn: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^(?P<lead>[ │├└─]*)(?P<name>[A-Z]\w+)(  |$)", line)
        if not found or not line.startswith("    "):
            continue
        depth = len(found["lead"])
        while above and above[-1][0] >= depth:
            above.pop()
        drawn[found["name"]] = above[-1][1] if above else "Exception"
        above.append((depth, found["name"]))
    classes = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind)}
    assert drawn == {name: kind.__bases__[0].__name__ for name, kind in classes.items()}
    codes = [kind.code for kind in classes.values()]
    assert len(set(codes)) == len(codes), "each class has its own stable code"


def test_errors_say_what_and_what_to_do() -> None:
    error = errors.SpecError("seed is 'x'.", remedy="Give a number.")
    assert str(error) == "seed is 'x'. Give a number." and error.exit_code == 2
    assert str(errors.ServerFault("down")) == "down"
    assert errors.RateLimited("slow", retry_after_s=2.0).retry_after_s == 2.0
    assert issubclass(errors.CallTimeout, errors.TemporaryError) and not issubclass(errors.FormatError, errors.TemporaryError)
