"""Examples that lie in a bucket: read once, kept with the run, and the run goes on with what it began with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import Workspace, open_store
from optimas_core.errors import ArtifactCorrupt, DataError
from optimas_core.stages import load_project, open_run, reopen_project

Write = Callable[..., Path]
ROWS = (Path(__file__).parents[2] / "fixtures" / "scripted" / "examples.jsonl").read_bytes()


def project(scripted_project: Write, source: str, **sections: Any) -> Path:
    split = {"train": 24, "validation": 30, "test": 16, "seed": 0}
    return scripted_project(data={"source": source, "split": split}, **sections)


def test_a_run_goes_on_with_the_examples_it_began_with(scripted_project: Write, s3_url: str) -> None:
    store = open_store(f"{s3_url}/incoming")
    store.put("questions.jsonl", ROWS)
    path = project(scripted_project, f"{s3_url}/incoming/questions.jsonl", name="first")
    begun = load_project(path)
    context = open_run(begun)
    assert [len(part) for part in (context.split.train, context.split.validation, context.split.test)] == [24, 30, 16]

    row = ROWS.splitlines()[0].replace(b"item", b"thing")
    store.put("questions.jsonl", row + b"\n" + b"\n".join(ROWS.splitlines()[1:]))
    assert load_project(path).identity == begun.identity, "resumed by its name"
    assert open_run(reopen_project(begun.directory, begun.workspace_url, "first")).split == context.split, "as a task opens it"
    other = load_project(path, name="second")
    assert other.identity != begun.identity and open_run(other).split != context.split, "a new run reads what is there now"

    workspace = Workspace.open(begun.workspace_url)
    [kept] = [key for key in workspace.store.list("data/") if context.run.read_spec()["data"]["digest"] in key]  # type: ignore[index]
    blob = workspace.store.get(kept)
    assert blob is not None
    workspace.store.put(kept, blob.data.replace(b"green", b"greem", 1))
    with pytest.raises(ArtifactCorrupt, match="damaged"):
        load_project(path)


def test_any_text_is_kept_as_it_is(scripted_project: Write, s3_url: str) -> None:
    """Characters that end a line elsewhere, a lone surrogate, and the order of the columns, which a metric may read."""
    odd = b'{"zeta": 1, "question": "What is the colour of item 5? \\u2028\\u0085\\ud800", "answer": "green5", "alpha": 2}\n'
    open_store(f"{s3_url}/incoming").put("odd.jsonl", odd + b"\n".join(ROWS.splitlines()[1:]))
    begun = load_project(project(scripted_project, f"{s3_url}/incoming/odd.jsonl", name="first"))
    open_run(begun)
    kept = reopen_project(begun.directory, begun.workspace_url, "first").split
    assert kept == begun.split
    [row] = [item for part in (kept.train, kept.validation, kept.test) for item in part if "zeta" in item.fields]
    assert list(row.fields) == ["zeta", "question", "answer", "alpha"]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("gone.jsonl", None, "does not exist"),
        ("broken.jsonl", b'{"question": "a"}\n{"question"', "broken.jsonl line 2 is not JSON"),
        ("broken.parquet", b"PAR1PAR1", "broken.parquet is not a readable Parquet file"),
        ("with space.jsonl", None, "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named_by_its_address(
    scripted_project: Write, s3_url: str, name: str, data: bytes | None, said: str
) -> None:
    if data is not None:
        open_store(f"{s3_url}/incoming").put(name, data)
    with pytest.raises(DataError, match=said) as caught:
        load_project(project(scripted_project, f"{s3_url}/incoming/{name}"))
    assert f"{s3_url}/incoming/{name}" in str(caught.value), "not the name of a temporary file"


def test_an_address_without_an_object_is_refused(scripted_project: Write) -> None:
    with pytest.raises(DataError, match="names no object"):
        load_project(project(scripted_project, "s3://bucket"))
