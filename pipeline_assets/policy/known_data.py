"""The part of the table that is about data: obstore, deltalake, pyarrow, polars, filelock."""

from pipeline_assets.errors import (
    BadData,
    ConfigurationError,
    DamagedTable,
    LockTimeout,
    MissingTable,
    PermissionDenied,
    ProgrammingError,
    SchemaError,
    StorageConflict,
)
from pipeline_assets.policy.storage_failures import commit, delta, storage_text
from pipeline_assets.policy.verdict import Entry, named_in, or_else

_OBSTORE = named_in(
    "obstore.exceptions",
    {
        "AlreadyExistsError": StorageConflict,
        "BaseError": or_else(storage_text, ProgrammingError),
        "GenericError": or_else(storage_text, ProgrammingError),
        "InvalidPathError": ConfigurationError,
        "JoinError": ProgrammingError,
        "NotFoundError": or_else(storage_text, MissingTable),
        "NotModifiedError": ProgrammingError,
        "NotSupportedError": ConfigurationError,
        "PermissionDeniedError": or_else(storage_text, PermissionDenied),
        "PreconditionError": StorageConflict,
        "UnauthenticatedError": or_else(storage_text, PermissionDenied),
        "UnknownConfigurationKeyError": ConfigurationError,
    },
)

_DELTALAKE = named_in(
    "_internal",  # as deltalake's extension module calls itself
    {
        "CommitFailedError": commit,
        "DeltaError": or_else(delta, ProgrammingError),
        "DeltaProtocolError": or_else(delta, DamagedTable),
        "SchemaMismatchError": SchemaError,
        "TableNotFoundError": or_else(storage_text, MissingTable),
    },
)

_ARROW = named_in(
    "pyarrow.lib",
    {
        "ArrowCancelled": ProgrammingError,
        "ArrowCapacityError": BadData,
        "ArrowException": or_else(storage_text, ProgrammingError),
        "ArrowIndexError": ProgrammingError,
        "ArrowInvalid": or_else(storage_text, BadData),
        "ArrowKeyError": ProgrammingError,
        "ArrowMemoryError": ProgrammingError,
        "ArrowNotImplementedError": ProgrammingError,
        "ArrowSerializationError": BadData,
        "ArrowTypeError": ProgrammingError,
    },
)

_POLARS = named_in(
    "polars.exceptions",
    {
        "ArgumentRemovedError": ProgrammingError,
        "AttributeRemovedError": ProgrammingError,
        "CategoricalRemappingWarning": ProgrammingError,
        "ChronoFormatWarning": ProgrammingError,
        "ColumnNotFoundError": SchemaError,
        "ComputeError": or_else(storage_text, BadData),  # a file or a value that cannot be read; a full disk, too
        "CustomUFuncWarning": ProgrammingError,
        "DataOrientationWarning": ProgrammingError,
        "DuplicateError": SchemaError,
        "InvalidOperationError": BadData,
        "MapWithoutReturnDtypeWarning": ProgrammingError,
        "ModuleUpgradeRequiredError": ConfigurationError,
        "NoDataError": BadData,
        "NoRowsReturnedError": BadData,
        "OutOfBoundsError": ProgrammingError,
        "ParameterCollisionError": ProgrammingError,
        "PerformanceWarning": ProgrammingError,
        "PolarsError": or_else(storage_text, ProgrammingError),
        "PolarsInefficientMapWarning": ProgrammingError,
        "PolarsWarning": ProgrammingError,
        "RowsError": BadData,
        "SQLInterfaceError": ProgrammingError,
        "SQLSyntaxError": ProgrammingError,
        "SchemaError": SchemaError,
        "SchemaFieldNotFoundError": SchemaError,
        "ShapeError": ProgrammingError,
        "StringCacheMismatchError": ProgrammingError,
        "StructFieldNotFoundError": SchemaError,
        "TooManyRowsReturnedError": BadData,
        "UnstableWarning": ProgrammingError,
        "UnsuitableSQLError": ProgrammingError,
    },
)

_FILELOCK = named_in(
    "filelock._error",
    {
        "LeaseSettingsMismatch": ConfigurationError,
        "SoftFileLockLifetimeWarning": ProgrammingError,
        "SoftFileLockProtocolError": ConfigurationError,  # an operator has to remove it
        "Timeout": LockTimeout,
    },
)

DATA: dict[str, Entry] = {**_OBSTORE, **_DELTALAKE, **_ARROW, **_POLARS, **_FILELOCK}
