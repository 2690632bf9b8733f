"""Every mistake a user can make ends in one sentence and a remedy, exit code 2, before any model was asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import DirectoryStore

Command = Callable[..., Any]
Write = Callable[..., Path]


@pytest.fixture
def backbone(tmp_path: Path) -> dict[str, str]:
    """Enough of a model directory to pass the check: these tests stop before it is loaded."""
    (tmp_path / "backbone").mkdir()
    (tmp_path / "backbone" / "config.json").write_text("{}")
    return {"rung": "frozen", "backbone": str(tmp_path / "backbone")}


CLIENT = 'client = Scripted(reply, latency_s=float(os.environ.get("SCRIPTED_LATENCY_S", "0")))'  # as the scripted project writes it


def refused(optimas: Command, path: Path, *said: str, command: str = "run") -> None:
    found = optimas(command, path)
    assert found.code == 2, found
    lines = found.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("optimas: "), found.err
    for text in said:
        assert text in lines[0]
    assert lines[0].count(". ") >= 1, "a sentence and a remedy"
    assert getattr(getattr(sys.modules.get("system"), "client", None), "calls", 0) == 0
    assert not list(path.parent.glob("workspace/runs/*")), "nothing is left behind"


def edited(path: Path, old: str, new: str) -> Path:
    system = path.parent / "system.py"
    text = system.read_text()
    assert old in text
    system.write_text(text.replace(old, new))
    return path


def test_an_absent_run_yaml(optimas: Command, tmp_path: Path) -> None:
    refused(optimas, tmp_path / "run.yaml", "does not exist", "optimas init")


def test_yaml_that_is_none(optimas: Command, scripted_project: Write) -> None:
    path = scripted_project()
    path.write_text("system: [")
    refused(optimas, path, "not valid YAML")


def test_an_unknown_key(optimas: Command, scripted_project: Write) -> None:
    refused(optimas, scripted_project(schedul={"iterations": 3}), "unknown key 'schedul'", "Did you mean 'schedule'?")
    refused(optimas, scripted_project("inner", budget={"dollars": 3}), "unknown key 'budget.dollars'")


def test_a_value_of_the_wrong_kind(optimas: Command, scripted_project: Write) -> None:
    refused(optimas, scripted_project(concurrency=0), "'concurrency'")


def test_a_name_that_cannot_be_one(optimas: Command, scripted_project: Write) -> None:
    refused(optimas, scripted_project(name="../up"), "cannot be used as a name")


def test_a_system_that_cannot_be_found(optimas: Command, scripted_project: Write) -> None:
    refused(optimas, scripted_project(system="system"), "is not module:function")
    refused(optimas, scripted_project("a", system="nowhere:build"), "'nowhere' cannot be imported")
    refused(optimas, scripted_project("b", system="system:make"), "has no function 'make'")
    refused(optimas, edited(scripted_project("c"), "def build():\n", "def build():\n    return 1\n"), "returned int")
    refused(optimas, edited(scripted_project("d"), "def build():\n", "def build():\n    raise KeyError('x')\n"), "KeyError")
    refused(optimas, edited(scripted_project("e"), "import re\n", "import re\n1 / 0\n"), "ZeroDivisionError")


def test_a_cycle(optimas: Command, scripted_project: Write) -> None:
    refused(optimas, edited(scripted_project(), "def facts(question: str,", "def facts(question: str, answer: str,"), "cycle")


def test_two_writers_of_one_field(optimas: Command, scripted_project: Write) -> None:
    refused(optimas, edited(scripted_project(), 'output="answer"', 'output="context"'), "context")


def test_a_value_outside_its_space(optimas: Command, scripted_project: Write) -> None:
    refused(optimas, edited(scripted_project(), "k: int = 1", "k: int = 3"), "lookup.k = 3 is outside its space [1, 2]")


def test_nothing_to_optimize(optimas: Command, scripted_project: Write) -> None:
    """An adapter is declared only: no optimizer of this version changes it."""
    path = edited(scripted_project(), ', space={"k": NumberGrid(1, 2)}', "")
    edited(path, 'space={"prompt": PromptSpace()}', 'space={"adapter": AdapterSpace("base")}')
    edited(path, "import re\n", "import re\n\nfrom optimas_core.system import AdapterSpace\n")
    refused(optimas, path, "has a space")


def test_a_missing_column(optimas: Command, scripted_project: Write) -> None:
    path = scripted_project()
    rows = [json.loads(line) for line in (path.parent / "examples.jsonl").read_text().splitlines()]
    renamed = [{"id": row["id"], "query": row["question"], "answer": row["answer"]} for row in rows]
    (path.parent / "examples.jsonl").write_text("\n".join(map(json.dumps, renamed)))
    refused(optimas, path, "question")


def test_data_that_is_not_there_or_empty(optimas: Command, scripted_project: Write) -> None:
    refused(optimas, scripted_project(data={"source": "absent.jsonl"}), "absent.jsonl")
    path = scripted_project("empty")
    (path.parent / "examples.jsonl").write_text("")
    refused(optimas, path, "examples.jsonl")
    refused(optimas, scripted_project("both", data={"source": "examples.jsonl", "train": "examples.jsonl"}), "`source`")


def three_parts(path: Path, parts: dict[str, slice]) -> None:
    lines = (path.parent / "examples.jsonl").read_text().splitlines()
    for name, part in parts.items():
        (path.parent / f"{name}.jsonl").write_text("\n".join(lines[part]))


THREE = {name: f"{name}.jsonl" for name in ("train", "validation", "test")}


def test_an_empty_split(optimas: Command, scripted_project: Write) -> None:
    path = scripted_project(data=THREE)
    three_parts(path, {"train": slice(0, 20), "validation": slice(0, 0), "test": slice(20, 30)})
    refused(optimas, path, "validation")


def test_one_example_in_two_splits(optimas: Command, scripted_project: Write) -> None:
    path = scripted_project(data=THREE)
    three_parts(path, {"train": slice(0, 20), "validation": slice(19, 30), "test": slice(30, 40)})
    refused(optimas, path, "e20")


@pytest.mark.parametrize(("value", "said"), [("float('nan')", "nan"), ("float('inf')", "inf"), ("2.0", "metric_range"), ("'good'", "good")])
def test_a_metric_that_gives_no_score(optimas: Command, scripted_project: Write, value: str, said: str) -> None:
    path = edited(scripted_project(), 'return token_f1(outputs["answer"] or "", example["answer"])', f"return {value}")
    refused(optimas, path, "metric", said)


def test_a_price_that_is_not_known(optimas: Command, scripted_project: Write) -> None:
    path = edited(scripted_project(budget={"usd": 1.0}), CLIENT, "client = Scripted(reply, price=None)")
    refused(optimas, path, "the price of 'scripted/model' is unknown", "`prices`")


def test_a_proposing_model_s_price_counts_too(optimas: Command, scripted_project: Write) -> None:
    path = scripted_project(budget={"usd": 1.0}, optimizers={"opro_model": "other"})
    edited(path, CLIENT, 'client = Scripted(reply)\nother = Scripted(reply, id="o", price=None)')
    refused(optimas, path, "the price of 'o' is unknown")


def test_a_proposing_model_that_is_none(optimas: Command, scripted_project: Write) -> None:
    refused(optimas, scripted_project(optimizers={"opro_model": "f1"}), "opro_model")


def test_a_workspace_that_cannot_be(optimas: Command, scripted_project: Write, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(optimas, scripted_project(workspace="ftp://host/x"), "ftp://host/x")
    refused(optimas, scripted_project("below", workspace=str(tmp_path / "file" / "below")), "file")


def test_a_store_that_ignores_conditions(optimas: Command, scripted_project: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    put = DirectoryStore.put

    def careless(self: Any, key: str, data: bytes, *, if_absent: bool = False, if_match: Any = None, durable: bool = True) -> str:
        return put(self, key, data, durable=durable)

    monkeypatch.setattr(DirectoryStore, "put", careless)
    refused(optimas, scripted_project(), "ignores them", "Use AWS S3")


def test_a_backbone_that_is_none(optimas: Command, scripted_project: Write) -> None:
    refused(optimas, scripted_project(lrf={"backbone": "/nowhere"}), "/nowhere holds no Hugging Face model", "lrf.backbone")


def test_an_endpoint_that_does_not_answer(optimas: Command, scripted_project: Write, backbone: dict[str, str]) -> None:
    path = scripted_project(lrf=backbone)
    edited(path, CLIENT, 'client = OpenAICompatible("m", base_url="http://127.0.0.1:9/v1")\nclient.calls = 0')
    edited(path, "from optimas_core.models import Scripted", "from optimas_core.models import OpenAICompatible")
    refused(optimas, path, "127.0.0.1:9")


def test_an_unreachable_proposing_model(optimas: Command, scripted_project: Write, backbone: dict[str, str]) -> None:
    path = scripted_project(lrf=backbone, optimizers={"opro_model": "other"})
    edited(path, CLIENT, 'client = Scripted(reply)\nother = OpenAICompatible("m", base_url="http://127.0.0.1:9/v1")')
    edited(path, "from optimas_core.models import Scripted", "from optimas_core.models import OpenAICompatible, Scripted")
    refused(optimas, path, "127.0.0.1:9")


def test_a_local_model_that_cannot_be_read(optimas: Command, scripted_project: Write, backbone: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    path = scripted_project(lrf=backbone)
    edited(path, CLIENT, f"client = Local({str(tmp_path / 'model')!r})\nclient.calls = 0")
    edited(path, "from optimas_core.models import Scripted", "from optimas_core.models import Local")
    refused(optimas, path, str(tmp_path / "model"))


def test_a_run_that_is_not_there_cannot_be_resumed(optimas: Command, scripted_project: Write) -> None:
    refused(optimas, scripted_project(), "there is no run", "optimas run", command="resume")


def test_a_name_taken_by_another_spec(optimas: Command, scripted_project: Write, backbone: dict[str, str]) -> None:
    from optimas_core.stages import load_project, open_run

    open_run(load_project(scripted_project(name="taken")))
    path = scripted_project("other", name="taken", lrf=backbone, workspace="../project/workspace", seed=2)
    refused(optimas, path, "was started with another spec, code or data", "`name`")
