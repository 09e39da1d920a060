"""A relative root is another in another folder: no command takes the tables for removed, or others for them."""

import shutil
import sys
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner
from deltalake import DeltaTable

from pipeline_assets import DeltaCheckpointIOManager
from pipeline_assets.cli import cli
from pipeline_assets.recovery.resume import NotResumable, resume
from pipeline_assets_tests.recovery.rolling import code_location

ROOT = "tables"


class Project:
    """A folder with two stages below a relative root, the second of which raises while there is a file `broken`."""

    def __init__(self, instance: dg.DagsterInstance, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.instance, self.patch, self.folder, self.other = instance, monkeypatch, folder / "here", folder / "there"
        self.broken = folder / "broken"
        for one in (self.folder, self.other):
            one.mkdir()
        self.module = f"project_of_{folder.name}"
        monkeypatch.setitem(sys.modules, self.module, code_location(self.module, self.definitions()))
        monkeypatch.chdir(self.folder)

    def definitions(self, root: str = ROOT) -> dg.Definitions:
        @dg.asset
        def first() -> pl.DataFrame:
            return pl.DataFrame({"n": [1]})

        @dg.asset
        def second(first: pl.DataFrame) -> pl.DataFrame:
            if self.broken.exists():
                raise ValueError
            return first

        jobs = [dg.define_asset_job("both", selection=[first, second])]
        resources = {"io_manager": DeltaCheckpointIOManager(root_uri=root)}
        return dg.Definitions([first, second], jobs=jobs, resources=resources, executor=dg.in_process_executor)

    def job(self, root: str = ROOT) -> dg.JobDefinition:
        return self.definitions(root).resolve_job_def("both")

    def run(self, *, ok: bool = True) -> str:
        """A run of both; its id."""
        if not ok:
            self.broken.touch()
        result = self.job().execute_in_process(instance=self.instance, raise_on_error=False)
        self.broken.unlink(missing_ok=True)
        assert result.success == ok
        return result.run_id

    def command(self, *arguments: str) -> tuple[int, str]:
        """A command: its exit status, and all that it said."""
        done = CliRunner().invoke(cli, [*arguments, "-m", self.module])
        return done.exit_code, done.output

    def at(self, folder: Path, table: str) -> str:
        return str(folder / ROOT / "public" / table)


@pytest.fixture
def project(instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(instance, tmp_path, monkeypatch)


def runs(project: Project) -> list[tuple[str, dg.DagsterRunStatus]]:
    return [(run.run_id, run.status) for run in project.instance.get_runs()]


def test_a_resume_from_another_folder_is_refused_with_both_places_and_goes_on_in_its_own(project: Project) -> None:
    failed = project.run(ok=False)
    before = runs(project)
    project.patch.chdir(project.other)
    for arguments in (["--last"], [failed, "--dry-run"]):
        status, said = project.command("resume", *arguments)
        assert status == 3
        assert f"has first at {project.at(project.folder, 'first')}, and the code location has it at" in said
        assert f"{project.at(project.other, 'first')} now, where there is no table. Nothing was changed" in said
        assert f"run this in the folder {project.folder}, or make root_uri absolute" in said
    assert list(project.other.iterdir()) == []
    assert runs(project) == before
    project.patch.chdir(project.folder)
    assert resume(project.instance, failed, project.job()).success
    assert pl.read_delta(project.at(project.folder, "second"))["n"].to_list() == [1]


def test_a_rollback_from_another_folder_is_refused_and_status_says_where_the_tables_are(project: Project) -> None:
    first, second = project.run(), project.run()
    project.patch.chdir(project.other)
    for arguments in (["--undo", second], ["--to", first]):
        status, said = project.command("rollback", *arguments, "--yes")
        assert status == 3
        assert f"run this in the folder {project.folder}, or make root_uri absolute" in said
    assert list(project.other.iterdir()) == []
    status, said = project.command("status")
    assert status == 0
    assert f"its newest checkpoint is of the table at {project.at(project.folder, 'first')}" in said
    assert f"`cd {project.folder}`" in said
    assert "no table any more" not in said


def test_other_tables_of_the_same_names_are_not_taken_for_a_run_s_own(project: Project) -> None:
    good, failed = project.run(), project.run(ok=False)
    project.patch.chdir(project.other)
    with dg.DagsterInstance.ephemeral() as another:
        assert project.job().execute_in_process(instance=another).success
    with pytest.raises(NotResumable, match="now, where there is another one"):
        resume(project.instance, failed, project.job())
    for arguments in (["--undo", failed], ["--to", good]):
        status, said = project.command("rollback", *arguments, "--yes")
        assert status == 3
        assert f"run this in the folder {project.folder}, or make root_uri absolute" in said
    assert f"`cd {project.folder}`" in project.command("status")[1]
    assert [DeltaTable(project.at(project.other, name)).version() for name in ("first", "second")] == [0, 0]


def test_tables_that_were_moved_with_their_logs_are_the_same_tables(project: Project, tmp_path: Path) -> None:
    failed = project.run(ok=False)
    shutil.move(project.folder / ROOT, tmp_path / "moved")
    assert resume(project.instance, failed, project.job(str(tmp_path / "moved"))).success
    assert pl.read_delta(str(tmp_path / "moved" / "public" / "second"))["n"].to_list() == [1]
    assert not (project.folder / ROOT).exists()
