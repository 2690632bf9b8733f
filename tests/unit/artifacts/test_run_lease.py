"""One holder per run, on two machines whose clocks share nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from optimas_core.artifacts import DirectoryStore, Lease, LeaseHeld, RunWorkspace, Workspace
from optimas_core.artifacts._process import ProcessIdentity, this_process
from optimas_core.errors import ArtifactCorrupt, LeaseLost, StoreUnavailable

ELSEWHERE = ProcessIdentity("far-away", "other-boot/pid:[1]", 7, "12345")


class Clock:
    """A clock of its own; sleeping moves it, and lets `meanwhile` happen."""

    def __init__(self, start_s: float) -> None:
        self.now = start_s
        self.meanwhile = lambda: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


@pytest.fixture
def run(tmp_path) -> RunWorkspace:
    return Workspace.open(tmp_path).run("r1")


def _lease(run, name, clock, **options):
    return Lease(run, name, ttl_s=options.pop("ttl_s", 30.0), clock=clock, sleep=clock.sleep, **options)


def test_a_live_holder_keeps_it_and_a_silent_one_loses_it(run):
    a_clock, b_clock = Clock(1e9), Clock(-50.0)  # clocks that agree in nothing
    a = _lease(run, "a", a_clock, process=ELSEWHERE)
    assert a.acquire() == 1
    b = _lease(run, "b", b_clock)
    b_clock.meanwhile = a.renew
    with pytest.raises(LeaseHeld, match="far-away") as caught:
        b.acquire()
    assert caught.value.exit_code == 4
    b_clock.meanwhile = lambda: None
    started = b_clock.now
    assert b.acquire() == 2
    assert 30.0 <= b_clock.now - started <= 40.0
    a_clock.now += 60  # a wakes
    with pytest.raises(LeaseLost):
        a.check()
    with pytest.raises(LeaseLost):
        a.renew()
    with pytest.raises(LeaseLost):
        _ = a.epoch
    a.release()  # must not give away what b holds
    b.renew()


def test_the_longer_ttl_counts(run):
    a = _lease(run, "a", Clock(0), ttl_s=300, process=ELSEWHERE)
    a.acquire()
    clock = Clock(0)
    assert _lease(run, "b", clock, ttl_s=1).acquire() == 2
    assert clock.now >= 300


def test_waiting_for_a_live_holder_to_finish(run):
    a = _lease(run, "a", Clock(0), process=ELSEWHERE)
    a.acquire()
    clock = Clock(0)
    clock.meanwhile = lambda: a.renew() if clock.now < 100 else a.release()
    assert _lease(run, "b", clock).acquire(wait_s=1000) == 2
    assert 100 <= clock.now < 110


def test_a_hung_holder_that_nobody_replaced_goes_on(run):
    clock = Clock(0)
    a = _lease(run, "a", clock)
    a.acquire()
    clock.now += 1000
    a.check()
    assert a.epoch == 1


def test_a_stale_holder_cannot_append_even_before_the_new_one_did(run):
    a = _lease(run, "a", Clock(0), process=ELSEWHERE)
    a.acquire()
    run.append_state(0, {"n": 0}, epoch=a.epoch)
    old_epoch = a.epoch
    b = _lease(run, "b", Clock(0))
    b.acquire()
    with pytest.raises(LeaseLost):
        run.append_state(1, {"n": 1}, epoch=old_epoch)
    run.append_state(1, {"n": 1}, epoch=b.epoch)


def test_a_dead_process_of_this_machine_is_replaced_at_once(run):
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    identity = replace(this_process(), pid=gone.pid, started="1")
    _lease(run, "a", Clock(0), process=identity).acquire()
    clock = Clock(0)
    assert _lease(run, "b", clock).acquire() == 2 and clock.now == 0


def test_a_reused_pid_is_not_the_old_process_and_a_live_one_is_alive():
    me = this_process()
    assert me.pid == os.getpid() and not me.is_dead_here()
    assert replace(me, started="1").is_dead_here()
    assert not replace(me, host="other", started="1").is_dead_here()
    assert not replace(me, machine="other", started="1").is_dead_here()
    assert not replace(me, machine="", started="1").is_dead_here()


def test_a_zombie_is_dead():
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    identity = replace(this_process(), pid=child.pid, started="1")
    until = time.monotonic() + 20
    while not identity.is_dead_here() and time.monotonic() < until:
        time.sleep(0.01)
    assert identity.is_dead_here()
    child.wait()


def test_of_8_takers_one_holds_it(run):
    leases = [Lease(run, f"p{i}", ttl_s=0.4) for i in range(8)]
    barrier = threading.Barrier(8)

    def take(lease: Lease) -> int | None:
        barrier.wait()
        try:
            epoch = lease.acquire()
        except LeaseHeld:
            return None
        stop = time.monotonic() + 0.8
        while time.monotonic() < stop:
            lease.renew()
            time.sleep(0.05)
        return epoch

    with ThreadPoolExecutor(8) as pool:
        epochs = [epoch for epoch in pool.map(take, leases) if epoch is not None]
    assert epochs == [1]


def test_keeping_renews_in_the_background_and_releases(run):
    a = Lease(run, "a", ttl_s=0.3)
    a.acquire()
    with a.keep():
        time.sleep(0.7)
        a.check()
        with pytest.raises(LeaseHeld):
            Lease(run, "b", ttl_s=0.3).acquire()
    assert Lease(run, "b", ttl_s=100).acquire() == 2  # at once


def test_a_renewal_whose_answer_was_lost_is_no_loss(tmp_path):
    class LosesAnswers(DirectoryStore):
        lose = False

        def put(self, key, data, **condition):
            etag = super().put(key, data, **condition)
            if self.lose:
                self.lose = False
                raise StoreUnavailable("no answer")
            return etag

    store = LosesAnswers(tmp_path)
    a = _lease(RunWorkspace(store, "r"), "a", Clock(0))
    a.acquire()
    store.lose = True
    with pytest.raises(StoreUnavailable):
        a.renew()
    a.renew()
    a.renew()
    assert a.epoch == 1


@pytest.mark.parametrize("junk", [b"", b"{}", b"[]", b'{"holder":1}', b"\xff"])
def test_a_damaged_lease_needs_a_person(run, junk):
    run.store.put("runs/r1/lease.json", junk)
    with pytest.raises(ArtifactCorrupt, match=r"lease\.json"):
        _lease(run, "a", Clock(0)).acquire()
