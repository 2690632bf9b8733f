"""A store that takes conditions and ignores them must not carry a run."""

from __future__ import annotations

import pytest

from optimas_core.artifacts import Blob, Conflict, DirectoryStore, probe
from optimas_core.errors import EnvironmentNotReady, StoreUnavailable


class Ignores(DirectoryStore):
    """As `rclone serve s3` does: the second write wins."""

    def __init__(self, path, ignored: str) -> None:
        super().__init__(path)
        self.ignored = ignored

    def put(self, key, data, **condition):
        condition.pop(self.ignored, None)
        return super().put(key, data, **condition)


@pytest.mark.parametrize("ignored", ["if_absent", "if_match"])
def test_a_store_that_ignores_conditions_is_refused(tmp_path, ignored):
    store = Ignores(tmp_path, ignored)
    with pytest.raises(EnvironmentNotReady, match="accepts conditional writes but ignores them") as caught:
        probe(store)
    assert caught.value.exit_code == 2 and tmp_path.as_uri() in str(caught.value)
    assert list(store.list()) == []


def test_an_honest_store_passes_and_is_left_clean(tmp_path):
    probe(DirectoryStore(tmp_path))
    assert list(DirectoryStore(tmp_path).list()) == []


def test_a_silent_store_is_not_ready(tmp_path):
    class Silent(DirectoryStore):
        def put(self, key, data, **_):
            raise StoreUnavailable("no answer from somewhere.", remedy="Start it.")

    with pytest.raises(EnvironmentNotReady, match=r"no answer from somewhere\. Start it\."):
        probe(Silent(tmp_path))


def test_a_store_that_refuses_everything_or_reads_stale_is_refused(tmp_path):
    class Refuses(DirectoryStore):
        def put(self, key, data, **_):
            raise Conflict("no")

    class Stale(DirectoryStore):
        def get(self, key):
            return Blob(b"old", "x") if super().get(key) else None

    with pytest.raises(EnvironmentNotReady, match="refuses a conditional write whose condition holds"):
        probe(Refuses(tmp_path))
    store = Stale(tmp_path)
    with pytest.raises(EnvironmentNotReady):
        probe(store)
