"""Where a run lives: a store, the layout over it, artifacts, tables, the lease, the call cache, the pointer, gc.

    DirectoryStore | S3Store        get, put (if_absent, if_match), list, delete
    Workspace -> RunWorkspace       spec, append-only states and ledger, artifacts (manifest last), configurations
    write_table | read_table        Parquet, schemas in `tables`
    Lease                           one holder per run
    CallStore, PromotedPointer      workspace.calls, workspace.promoted(system)
    pack_bundle, put_bundle, …      a system's code on its way to a pod
    collect                         gc

Nothing here imports boto3, tenacity or pyarrow before it is needed.
"""

from optimas_core.artifacts._bundle import Bundle, pack_bundle, put_bundle, unpack_bundle
from optimas_core.artifacts._calls import CallStore
from optimas_core.artifacts._directory import DirectoryStore
from optimas_core.artifacts._gc import DEFAULT_MIN_AGE_S, collect
from optimas_core.artifacts._lease import Lease, LeaseHeld
from optimas_core.artifacts._log import RecordLog
from optimas_core.artifacts._manifest import Artifact, ArtifactFile, Manifest
from optimas_core.artifacts._pointer import PromotedPointer, Promotion
from optimas_core.artifacts._probe import open_store, probe
from optimas_core.artifacts._s3 import S3Store
from optimas_core.artifacts._store import Blob, Conflict, Store, StoredKey
from optimas_core.artifacts._table_reading import read_batches, read_table
from optimas_core.artifacts._table_writing import TableWriter, write_table
from optimas_core.artifacts._workspace import RunWorkspace, StoredState, Workspace
from optimas_core.artifacts.tables import current_version

__all__ = [
    "DEFAULT_MIN_AGE_S",
    "Artifact",
    "ArtifactFile",
    "Blob",
    "Bundle",
    "CallStore",
    "Conflict",
    "DirectoryStore",
    "Lease",
    "LeaseHeld",
    "Manifest",
    "PromotedPointer",
    "Promotion",
    "RecordLog",
    "RunWorkspace",
    "S3Store",
    "Store",
    "StoredKey",
    "StoredState",
    "TableWriter",
    "Workspace",
    "collect",
    "current_version",
    "open_store",
    "pack_bundle",
    "probe",
    "put_bundle",
    "read_batches",
    "read_table",
    "unpack_bundle",
    "write_table",
]
