"""The part of the table that is about Dagster's own exceptions."""

from pipeline_assets.errors import BadData, ConfigurationError, ProgrammingError, ServiceUnavailable
from pipeline_assets.policy.dagster_failures import asked_to_retry, failed_on_purpose, users_exception
from pipeline_assets.policy.verdict import Entry, named_in

_ERRORS = named_in(
    "dagster._core.errors",
    {
        "DagsterAssetBackfillDataLoadError": ProgrammingError,
        "DagsterAssetCheckFailedError": BadData,
        "DagsterBackfillFailedError": ProgrammingError,
        "DagsterCodeLocationLoadError": ConfigurationError,
        "DagsterCodeLocationNotFoundError": ConfigurationError,
        "DagsterConfigMappingFunctionError": users_exception,
        "DagsterDefinitionChangedDeserializationError": ProgrammingError,
        "DagsterEventLogInvalidForRun": ProgrammingError,
        "DagsterExecutionHandleOutputError": users_exception,
        "DagsterExecutionLoadInputError": users_exception,
        "DagsterExecutionPlanSnapshotNotFoundError": ProgrammingError,
        "DagsterExecutionStepExecutionError": users_exception,
        "DagsterExecutionStepNotFoundError": ProgrammingError,
        "DagsterHomeNotSetError": ConfigurationError,
        "DagsterImportError": ConfigurationError,
        "DagsterInvalidAssetKey": ConfigurationError,
        "DagsterInvalidConfigDefinitionError": ConfigurationError,
        "DagsterInvalidConfigError": ConfigurationError,
        "DagsterInvalidDagsterTypeInPythonicConfigDefinitionError": ConfigurationError,
        "DagsterInvalidDefinitionError": ConfigurationError,
        "DagsterInvalidDeserializationVersionError": ProgrammingError,
        "DagsterInvalidInvocationError": ProgrammingError,
        "DagsterInvalidMetadata": ProgrammingError,
        "DagsterInvalidObservationError": ProgrammingError,
        "DagsterInvalidPropertyError": ConfigurationError,
        "DagsterInvalidPythonicConfigDefinitionError": ConfigurationError,
        "DagsterInvalidSubsetError": ConfigurationError,
        "DagsterInvariantViolationError": ProgrammingError,
        "DagsterLaunchFailedError": ProgrammingError,
        "DagsterMaxRetriesExceededError": ProgrammingError,
        "DagsterObjectStoreError": ProgrammingError,
        "DagsterPipesExecutionError": ProgrammingError,
        "DagsterRedactedUserCodeError": ProgrammingError,
        "DagsterResourceFunctionError": users_exception,
        "DagsterRunAlreadyExists": ProgrammingError,
        "DagsterRunConflict": ProgrammingError,
        "DagsterRunNotFoundError": ProgrammingError,
        "DagsterRunTooLargeError": ProgrammingError,
        "DagsterSnapshotDoesNotExist": ProgrammingError,
        "DagsterStepOutputNotFoundError": ProgrammingError,
        "DagsterSubprocessError": ProgrammingError,
        "DagsterTypeCheckDidNotPass": BadData,
        "DagsterTypeCheckError": users_exception,
        "DagsterTypeLoadingError": users_exception,
        "DagsterUndefinedDataVersionError": ProgrammingError,
        "DagsterUnknownPartitionError": ConfigurationError,
        "DagsterUnknownResourceError": ConfigurationError,
        "DagsterUnknownStepStateError": ProgrammingError,
        "DagsterUnmetExecutorRequirementsError": ConfigurationError,
        "DagsterUserCodeExecutionError": users_exception,
        "DagsterUserCodeLoadError": users_exception,
        "DagsterUserCodeProcessError": ProgrammingError,
        "DagsterUserCodeUnreachableError": ServiceUnavailable,
        "DagsterUserCodeUnreachableTimeoutError": ServiceUnavailable,
        "FreshnessPolicySensorExecutionError": users_exception,
        "HookExecutionError": users_exception,
        "JobError": users_exception,
        "PartitionExecutionError": users_exception,
        "RunStatusSensorExecutionError": users_exception,
        "ScheduleExecutionError": users_exception,
        "SensorExecutionError": users_exception,
    },
)

_ASKED = named_in(
    "dagster._core.definitions.events",
    {
        "Failure": failed_on_purpose,
        "RetryRequested": asked_to_retry,
    },
)

_ROOT = named_in(
    "dagster_shared.error",
    {
        "DagsterError": ProgrammingError,
    },
)

_WARNINGS = named_in(
    "dagster_shared.utils.warnings",
    {
        "BetaWarning": ProgrammingError,
        "ConfigArgumentWarning": ConfigurationError,
        "PreviewWarning": ProgrammingError,
        "SupersessionWarning": ProgrammingError,
    },
)

DAGSTER: dict[str, Entry] = {**_ERRORS, **_ASKED, **_ROOT, **_WARNINGS}
