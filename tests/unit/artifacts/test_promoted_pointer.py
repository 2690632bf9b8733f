"""The promoted pointer: compare-and-swap, history, rollback."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from optimas_core.artifacts import Conflict, PromotedPointer, Workspace
from optimas_core.errors import ArtifactCorrupt, UserError

A, B, C = ("a" * 32, "b" * 32, "c" * 32)
WHEN = {"run_id": "r1", "at": "2025-01-01T00:00:00Z"}


@pytest.fixture
def pointer(tmp_path) -> PromotedPointer:
    return Workspace.open(tmp_path).promoted("qa")


def test_promote_and_history(pointer):
    assert pointer.current() is None and pointer.history() == ()
    pointer.promote(A, **WHEN, expected_serial=0)
    second = pointer.promote(B, **WHEN, note="better by .1")
    assert pointer.current() == second and second.serial == 2
    assert [entry.configuration for entry in pointer.history()] == [A, B]
    with pytest.raises(Conflict, match="is at 2, not at 1"):
        pointer.promote(C, **WHEN, expected_serial=1)


def test_rollback_goes_back_step_by_step(pointer):
    with pytest.raises(UserError, match="before the current one"):
        pointer.rollback(at="t")
    for configuration in (A, B, C):
        pointer.promote(configuration, **WHEN)
    assert pointer.rollback(at="t").configuration == B
    assert pointer.rollback(at="t").configuration == A
    with pytest.raises(UserError):
        pointer.rollback(at="t")
    pointer.promote(C, **WHEN)
    assert pointer.rollback(at="t", note="worse").configuration == A
    assert [entry.action for entry in pointer.history()][-2:] == ["promote", "rollback"]


def test_of_6_promotions_at_once_none_is_lost(pointer):
    barrier = threading.Barrier(6)

    def promote(index: int) -> None:
        barrier.wait()
        pointer.promote(f"{index:032x}", **WHEN)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(promote, range(6)))
    assert sorted(int(entry.configuration, 16) for entry in pointer.history()) == list(range(6))


@pytest.mark.parametrize("junk", [b"", b"{}", b'{"history":[{}]}', b'{"history":[1]}'])
def test_damage_is_named(pointer, junk):
    pointer.store.put("current/qa", junk)
    with pytest.raises(ArtifactCorrupt, match="current/qa"):
        pointer.current()
