"""Whether a missing file was taken by a maintenance job: then the next attempt finds what took its place."""

from pipeline_assets.delta.handles import newest
from pipeline_assets.delta.record import VACUUM
from pipeline_assets.errors import MissingTable, UnderMaintenance
from pipeline_assets.io.steps import Step
from pipeline_assets.policy.failures import Verdict

_MAINTENANCE = ("OPTIMIZE", "VACUUM", "REORG")
"""How the operations begin that rewrite or delete files of a table without a change of its rows."""


def seen(step: Step, verdict: Verdict) -> Verdict:
    """The verdict on an attempt's error; UnderMaintenance where a file was missing that maintenance has replaced.

    The attempt reads at pins, and opens the newest version with the same rows: so after maintenance it reads other files.
    """
    if verdict.kind is not MissingTable:
        return verdict
    for name, read in step.reads.items():
        table = newest(read.output.location)
        if table is None or table.id != read.pin.table_id:
            continue
        for commit in table.log.back_from(table.version):
            if commit.version <= read.pin.version:
                break
            ours = commit.record is not None and commit.record.kind == VACUUM
            if ours or commit.operation.startswith(_MAINTENANCE):
                what = "maintenance" if ours else commit.operation
                return Verdict(UnderMaintenance, f"{what} of {name} took a file that was being read")
    return verdict
