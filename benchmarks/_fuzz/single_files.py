"""Readers of the single files of a run: what a good one looks like, and the whole of what we do with it."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _fuzz.memory_store import MemoryStore
from optimas_core.artifacts import Lease, Workspace
from optimas_core.canonical import digest
from optimas_core.system import Configuration, Demonstration, Prompt, PromptSpace

DIGEST = "ab" * 16
FACTS: dict[str, Any] = {"inputs": {"from": DIGEST}, "producer": "code", "created_at": "2025-01-01T00:00:00Z"}


def files_of(run: Mapping[str, bytes], part: str) -> list[bytes]:
    return [data for key, data in run.items() if part in key]


def alone(key: str, data: bytes) -> Workspace:
    return Workspace(MemoryStore({key: data}))


def manifests(run: Mapping[str, bytes]) -> list[bytes]:
    store = MemoryStore({})
    Workspace(store).run("r").commit_artifact("lrf", DIGEST, {"a.json": b"{}", "b.bin": b"12"}, schemas={"rollouts": 1}, **FACTS)
    return [store.files[f"runs/r/lrf/{DIGEST}/manifest.json"]]


def read_manifest(data: bytes) -> None:
    folder = f"runs/r/lrf/{DIGEST}"
    store = MemoryStore({f"{folder}/manifest.json": data, f"{folder}/a.json": b"{}", f"{folder}/b.bin": b"12"})
    artifact = Workspace(store).run("r").open_artifact("lrf", DIGEST)
    assert artifact is not None
    assert len(artifact.manifest.to_bytes()) > 0 and artifact.manifest.same_content(artifact.manifest)
    artifact.verify()
    with tempfile.TemporaryDirectory(dir=scratch()) as below:
        artifact.local_path(Path(below) / "in")
        outside = [str(path) for path in Path(below).iterdir() if path.name != "in"]
        assert not outside, f"files outside the folder: {outside}"


def read_state(data: bytes) -> None:
    from optimas_core.controller import RunState

    index = 0
    try:
        index = int(json.loads(data)["index"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        pass
    index = index if 0 <= index < 10**6 else 0
    run = alone(f"runs/r/state/{index:06d}.json", data).run("r")
    for stored in (run.read_state(index), run.latest_state(), *run.states()):
        if stored is not None:
            RunState.from_json(stored.data)
    run.append_state(index + 1, {}, epoch=1)


def read_head(data: bytes) -> None:
    run = alone("runs/r/state/HEAD", data).run("r")
    run.latest_state()
    list(run.states())


def read_ledger(data: bytes) -> None:
    from optimas_core.rollouts import Budget
    from optimas_core.spec import BudgetSettings

    budget = Budget(BudgetSettings(usd=1.0, tokens=100, system_runs=5, hours=1), alone("runs/r/ledger/000000.json", data).run("r"))
    budget.spent(), budget.rows(), budget.hours()
    budget.flush()


def leases() -> list[bytes]:
    store = MemoryStore({})
    Lease(Workspace(store).run("r")).acquire()
    return [store.files["runs/r/lease.json"]]


def take_lease(data: bytes) -> None:
    clock = [0.0]

    def sleep(seconds: float) -> None:
        assert seconds >= 0
        clock[0] += max(seconds, 0.1)

    run = alone("runs/r/lease.json", data).run("r")
    lease = Lease(run, clock=lambda: clock[0], sleep=sleep)
    lease.acquire(wait_s=1.0)
    lease.renew()
    run.append_state(0, {}, epoch=lease.epoch)


def promotions() -> list[bytes]:
    pointer = Workspace(store := MemoryStore({})).promoted("s")
    pointer.promote(DIGEST, run_id="r", at="2025-01-01", note="better")
    pointer.promote("cd" * 16, run_id="r", at="2025-01-02")
    pointer.rollback(at="2025-01-03")
    return [store.files["current/s"]]


def move_pointer(data: bytes) -> None:
    pointer = alone("current/s", data).promoted("s")
    pointer.history(), pointer.current()
    pointer.promote(DIGEST, run_id="r", at="2025-01-04")
    pointer.rollback(at="2025-01-05")


def calls() -> list[bytes]:
    usage = [{"model": "m", "tokens_in": 3, "tokens_out": 4, "usd": 0.1, "latency_s": 0.5, "attempts": 1, "finish_reason": "stop"}]
    record = {"component": "c", "outputs": {"answer": "x"}, "status": "ok", "error": "", "usage": usage}
    refused = record | {"outputs": {}, "status": "format_error", "error": "no JSON"}
    return [as_json({"check": digest(item), "record": item}) for item in (record, refused)]


def use_call(data: bytes) -> None:
    """A record out of the shared call store, as the engine uses it: it counts, or the call is made again."""
    import asyncio

    from optimas_core.rollouts import Budget, RolloutEngine, Task
    from optimas_core.spec import BudgetSettings
    from optimas_core.system import CompoundSystem, Example, component

    def answer(question: str) -> str:
        return question

    system = CompoundSystem(
        [component(answer, name="c", outputs="answer", blocking=False)], outputs=["answer"], metric=lambda example, outputs: 1.0
    )
    store = _AnyCall(data)
    engine = RolloutEngine(system, Budget(BudgetSettings()), calls=Workspace(store).calls, concurrency=1)
    task = Task(Example("e", {"question": "q"}), system.configuration)
    rollout = asyncio.run(engine.run([task], stage="s", iteration=0))[0]
    assert rollout.status != "missing", f"a record that cannot be used was not asked for again: {rollout.error}"


class _AnyCall(MemoryStore):
    """Every call has this record."""

    def __init__(self, data: bytes) -> None:
        super().__init__({})
        self._data = data

    def get(self, key: str, *, max_bytes: int = 1 << 31) -> Any:
        if key.startswith("calls/") and key not in self.files:
            self.files[key] = self._data
        return super().get(key, max_bytes=max_bytes)


PROMPT = Prompt("Answer.", "chat", (Demonstration({"question": "q"}, "a"),))


def read_configuration(data: bytes) -> None:
    try:
        name = digest(json.loads(data))
    except (ValueError, TypeError, RecursionError):
        name = DIGEST
    found = alone(f"runs/r/configurations/{name}.json", data).run("r").read_configuration(name)
    if found is not None:
        configuration = Configuration.from_json(found)
        system().check_configuration(configuration)
        assert configuration.differs_in(system().configuration) is not None


@functools.lru_cache(maxsize=1)
def system() -> Any:
    """Of the components and knobs that the run's configurations have."""
    from optimas_core.models import Scripted, llm
    from optimas_core.system import CompoundSystem, NumberGrid, component

    def lookup(question: str, k: int = 1) -> str:
        return question

    model = Scripted(lambda request, attempt: "x")
    parts = [
        component(lookup, name="lookup", outputs="context", space={"k": NumberGrid(1, 2, 3)}, blocking=False),
        llm("answerer", inputs=["context"], output="answer", model=model, prompt="Answer.", space={"prompt": PromptSpace()}),
    ]
    return CompoundSystem(parts, outputs=["answer"], metric=lambda example, outputs: 0.0)


def read_prompt(data: bytes) -> None:
    from optimas_core.canonical import parse_json

    try:
        value = parse_json(data)
    except ValueError:
        return  # the file around it is refused
    PromptSpace().check(value, "c.prompt")
    prompt = Prompt.from_json(value)
    prompt.messages({"question": "q"}, "answer")
    prompt.text({"question": "q"}, "answer")


def read_spec(data: bytes) -> None:
    from optimas_core.cli._inspect import _status

    _status(alone("runs/r/spec.json", data).run("r"))


@functools.lru_cache(maxsize=1)
def scratch() -> Path:
    """In memory where the machine has such a place; removed when the program ends."""
    memory = Path("/dev/shm")
    folder = tempfile.TemporaryDirectory(prefix="optimas-fuzz-", dir=memory if memory.is_dir() else None)
    _kept.append(folder)
    return Path(folder.name)


_kept: list[Any] = []


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()
