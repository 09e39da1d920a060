"""Whether a store creates a version only once: what every commit rests on."""

import functools
import uuid

from deltalake import DeltaTable, Field, Schema
from deltalake.schema import PrimitiveType

from pipeline_assets.delta.commit import Proposal, try_commit, try_create
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.log import LOG
from pipeline_assets.delta.record import Record
from pipeline_assets.delta.table import Table
from pipeline_assets.errors import ConfigurationError, UnsupportedTable

FOLDER = "_pipeline_assets_probe"


@functools.lru_cache(maxsize=64)
def refuse_without_conditional_put(root: Location) -> None:
    """Try, once a process and root, to create a version twice. Raises UnsupportedTable, ConfigurationError.

    A local file system links files, which fails where the name exists; an object store must honour `If-None-Match`.
    """
    if root.is_local:
        return
    if root.options.get("allow_unsafe_rename", "").lower() == "true":
        raise ConfigurationError(
            f"{root.uri} is used with allow_unsafe_rename, by which two writers may both create a version. "
            "Nothing was written; remove the option."
        )
    where = root.child(FOLDER, uuid.uuid4().hex)
    schema = Schema([Field("probe", PrimitiveType("long"))])
    record = Record("create", FOLDER, "")
    try:
        try_create(where, schema, [], Proposal(record))
        handles = [Table(where, DeltaTable(where.uri, storage_options=where.options)) for _ in range(2)]
        results = [try_commit(handle, Proposal(Record("fence", FOLDER, handle.id))) for handle in handles]
    finally:
        where.delete(f"{LOG}/{name}" for name in where.names(LOG))
    if results[0] is None or results[1] is not None:
        raise UnsupportedTable(
            table=root.uri,
            feature="no conditional put: it let two writers create the same version",
            hint="Use a store that honours If-None-Match (S3, MinIO, R2, GCS, Azure), or a local disk.",
        )
