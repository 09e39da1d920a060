"""The part of the table that is about databases: SQLAlchemy, and the drivers below it."""

from pipeline_assets.errors import (
    BadData,
    ConfigurationError,
    MissingTable,
    NetworkError,
    ProgrammingError,
    ServiceUnavailable,
)
from pipeline_assets.policy.database_failures import about_rows, database_text, wrapped_by_sqlalchemy
from pipeline_assets.policy.verdict import Entry, named_in, or_else

_SQLALCHEMY = named_in(
    "sqlalchemy.exc",
    {
        "AmbiguousColumnError": ProgrammingError,
        "AmbiguousForeignKeysError": ProgrammingError,
        "ArgumentError": ProgrammingError,
        "AwaitRequired": ProgrammingError,
        "Base20DeprecationWarning": ProgrammingError,
        "CircularDependencyError": ProgrammingError,
        "CompileError": ProgrammingError,
        "ConstraintColumnNotFoundError": ProgrammingError,
        "DBAPIError": wrapped_by_sqlalchemy,
        "DataError": about_rows,
        "DatabaseError": wrapped_by_sqlalchemy,
        "DisconnectionError": NetworkError,
        "DuplicateColumnError": ProgrammingError,
        "EmulatedDBAPIException": or_else(database_text, ProgrammingError),
        "IdentifierError": ProgrammingError,
        "IllegalStateChangeError": ProgrammingError,
        "IntegrityError": about_rows,
        "InterfaceError": wrapped_by_sqlalchemy,
        "InternalError": wrapped_by_sqlalchemy,
        "InvalidRequestError": ProgrammingError,
        "InvalidatePoolError": NetworkError,
        "LegacyAPIWarning": ProgrammingError,
        "MissingGreenlet": ProgrammingError,
        "MovedIn20Warning": ProgrammingError,
        "MultipleResultsFound": BadData,
        "NoDBAPILoaded": ConfigurationError,
        "NoForeignKeysError": ProgrammingError,
        "NoInspectionAvailable": ProgrammingError,
        "NoReferenceError": ProgrammingError,
        "NoReferencedColumnError": ProgrammingError,
        "NoReferencedTableError": ProgrammingError,
        "NoResultFound": BadData,
        "NoSuchColumnError": ProgrammingError,
        "NoSuchModuleError": ConfigurationError,
        "NoSuchTableError": MissingTable,
        "NotSupportedError": wrapped_by_sqlalchemy,
        "ObjectNotExecutableError": ProgrammingError,
        "OperationalError": wrapped_by_sqlalchemy,
        "PendingRollbackError": ProgrammingError,
        "ProgrammingError": wrapped_by_sqlalchemy,
        "ResourceClosedError": ProgrammingError,
        "SADeprecationWarning": ProgrammingError,
        "SAPendingDeprecationWarning": ProgrammingError,
        "SATestSuiteWarning": ProgrammingError,
        "SAWarning": ProgrammingError,
        "SQLAlchemyError": ProgrammingError,
        "StatementError": wrapped_by_sqlalchemy,
        "TimeoutError": ServiceUnavailable,  # all connections of the pool are taken
        "UnboundExecutionError": ProgrammingError,
        "UnreflectableTableError": ProgrammingError,
        "UnsupportedCompilationError": ProgrammingError,
    },
)

_DRIVERS: dict[str, Entry] = {
    f"{driver}.{name}": entry
    for driver in ("psycopg2", "psycopg", "pymysql.err", "MySQLdb")
    for name, entry in {
        "OperationalError": or_else(database_text, NetworkError),  # a deadlock is one, too
        "InterfaceError": NetworkError,  # the connection was closed
        "DataError": BadData,
        "IntegrityError": BadData,
    }.items()
}

DATABASES: dict[str, Entry] = {**_SQLALCHEMY, **_DRIVERS}
