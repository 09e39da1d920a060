"""`pipeline-assets run`: what it shows, and how each kind of failure ends; its runs are in real processes of their own."""

import io
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob

from pipeline_assets.cli import cli
from pipeline_assets.cli.progress import Lines
from pipeline_assets.delta.location import Location
from pipeline_assets.io.unchanged import FORCE_TAG
from pipeline_assets.recovery.progress import Progress
from pipeline_assets_tests.recovery import evidence, recovering_location
from pipeline_assets_tests.recovery.recovering_location import file
from pipeline_assets_tests.recovery.rolling import values

MODULE = recovering_location.__name__
RUN = r"[0-9a-f-]{36}"


@dataclass
class Said:
    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def last(self) -> list[str]:
        return self.err.splitlines()[-4:]


Command = Callable[..., Said]


@pytest.fixture
def command(instance: dg.DagsterInstance, tables: Location, capfd: pytest.CaptureFixture[str]) -> Command:
    """The command line, in this process; what it runs is in others."""

    def call(*arguments: str) -> Said:
        recovering_location.defs = recovering_location.definitions()
        for kept in (ReconstructableJob.get_definition, ReconstructableJob.get_repository_definition):
            kept.cache_clear()  # of another test, whose tables lie elsewhere
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([*arguments, "-m", MODULE])
        return Said(int(ended.value.code or 0), *capfd.readouterr())

    return call


def tell(name: str, how: str = "") -> None:
    file(name).write_text(how)


def shown(tables: Location) -> dict[str, int]:
    """How many rows each stage's table shows."""
    return {name: len(values(tables.child("shop", name), "n")) for name in "abc"}


def test_a_line_says_what_begins_what_is_done_and_what_fails_and_four_say_how_to_go_on(
    command: Command, instance: dg.DagsterInstance, tables: Location
) -> None:
    tell("c.raise", "always")
    done = command("run", "shop")
    run = instance.get_runs()[0]
    assert done.status == 1
    assert re.fullmatch(
        rf"Run {run.run_id} of shop_job\n"
        r"shop/a begins\nshop/a done after \d+\.\d s: 2 rows, version 0\n"
        r"shop/b begins\nshop/b done after \d+\.\d s: 2 rows, version 0\n"
        r"shop/c begins\nshop/c failed after \d+\.\d s: Told: c was told to\n",
        done.out,
    )
    assert "a computes\n" in done.err
    resume = f"continue  pipeline-assets resume {run.run_id} -m {MODULE}"
    four = [
        "stage     shop/c",
        "why       Told: c was told to",
        "on disk   shop/a version 0, shop/b version 0; nothing else was written",
        resume,
    ]
    assert done.last == four
    again = command("resume", run.run_id)
    assert again.status == 1
    assert [line for line in again.err.splitlines() if line.startswith(("stage ", "why ", "on disk "))] == four[:3]
    said = command("resume", "--last", "--json").document["failure"]
    assert (said["stages"], said["error"], said["on_disk"]) == (["shop/c"], "Told", {"shop/a": 0, "shop/b": 0})


def test_a_process_that_ends_without_a_word_is_spoken_for(
    command: Command, instance: dg.DagsterInstance, tables: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had committed before its event is among what is on disk."""
    monkeypatch.setenv("PIPELINE_ASSETS_CRASH", "after_commit:shop/b")
    done = command("run", "shop_job", "--select", 'key:"shop/a"+')
    assert done.status == 1
    assert done.last[:3] == [
        "stage     shop/b",
        "why       Its process was killed by SIGKILL.",
        "on disk   shop/a version 0, shop/b version 0; nothing else was written",
    ]
    assert instance.get_runs()[0].is_failure


@pytest.mark.slow
def test_a_process_that_ends_itself_is_spoken_for(command: Command, tables: Location) -> None:
    tell("b.exit")
    said = command("run", "shop", "--json").document["runs"][0]["failure"]
    assert (said["stages"], said["why"]) == (["shop/b"], "Its process ended with exit status 7, and no word of why.")


def test_a_line_says_what_was_skipped(instance: dg.DagsterInstance, tables: Location) -> None:
    job = recovering_location.definitions().resolve_job_def("shop_job")
    only = [dg.AssetKey(["shop", "a"])]
    assert job.execute_in_process(instance=instance, asset_selection=only).success
    skipped = job.execute_in_process(instance=instance, asset_selection=only)
    lines = io.StringIO()
    Lines(lines).heard(followed(instance, skipped.run_id))
    said = r"shop/a begins\nshop/a done after [\d.]+ s: skipped, unchanged since version 0\n"
    assert re.fullmatch(said, lines.getvalue())


def followed(instance: dg.DagsterInstance, run_id: str) -> Progress:
    """How far a run is."""
    progress = Progress(instance, instance.get_run_by_id(run_id))
    progress.poll()
    return progress


@contextmanager
def stopping_when_b_waits() -> Iterator[None]:
    """This process is asked to stop then, as by Ctrl-C or a service manager."""
    tell("b.wait")

    def stop() -> None:
        deadline = time.monotonic() + recovering_location.SECONDS
        while not file("b.waits").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    stopping = threading.Thread(target=stop)
    stopping.start()
    yield
    stopping.join()


def test_a_run_that_is_to_stop_is_cancelled_and_commits_nothing(
    command: Command, instance: dg.DagsterInstance, tables: Location
) -> None:
    with stopping_when_b_waits():
        done = command("run", "resumed")
    run = instance.get_runs()[0]
    assert (done.status, run.status, len(instance.get_runs())) == (1, dg.DagsterRunStatus.CANCELED, 1)
    assert done.last[0] == "stage     shop/b"
    assert done.last[1].startswith("why       Execution of run"), done.last
    assert done.last[2:] == [
        "on disk   shop/a version 0; nothing else was written",
        f"continue  pipeline-assets resume {run.run_id} -m {MODULE}",
    ]
    assert shown(tables) == {"a": 2, "b": 0, "c": 0}


def test_a_resume_that_is_to_stop_is_cancelled_too_which_is_no_failure_to_act_on(
    command: Command, instance: dg.DagsterInstance, tables: Location
) -> None:
    tell("b.raise")
    job = recovering_location.definitions().resolve_job_def("resumed_job")
    failed = job.execute_in_process(instance=instance, raise_on_error=False).run_id
    with stopping_when_b_waits():
        done = command("resume", failed)
    resumed, _ = instance.get_runs()
    assert (done.status, resumed.parent_run_id, resumed.status) == (1, failed, dg.DagsterRunStatus.CANCELED)
    assert done.last[3] == f"continue  pipeline-assets resume {resumed.run_id} -m {MODULE}"
    assert shown(tables) == {"a": 2, "b": 0, "c": 0}


def test_a_prefix_of_asset_keys_is_a_pipeline(command: Command, tables: Location) -> None:
    done = command("run", "days", "--partition", "mon")
    assert done.status == 0, done.err
    assert [values(tables.child("days", name), "day") for name in ("together", "apart")] == [["mon"], ["mon"]]


def test_a_range_is_one_run_where_all_say_so_else_a_run_a_partition_until_one_fails(
    command: Command, instance: dg.DagsterInstance, tables: Location
) -> None:
    together = command("run", "together", "--from", "mon", "--to", "wed", "--force")
    assert together.status == 0, together.err
    assert instance.get_runs()[0].tags[FORCE_TAG] == "true"
    assert "__ASSET_JOB from mon to wed: one run for all of them.\n" in together.out
    assert values(tables.child("days", "together"), "day") == ["mon", "tue", "wed"]
    tell("mon.raise", "always")
    apart = command("run", "apart", "--from", "mon", "--to", "wed", "--json")
    said = apart.document
    assert (apart.status, said["not_begun"]) == (1, ["tue", "wed"])
    assert [(one["partition"], one["success"]) for one in said["runs"]] == [("mon", False)]
    assert "__ASSET_JOB from mon to wed: 3 runs, one after the other." in apart.err
    assert "stage     days/apart [mon]" in apart.err


@pytest.mark.slow
def test_later_partitions_are_begun_after_a_failed_one_where_it_keeps_going(
    command: Command, instance: dg.DagsterInstance, tables: Location
) -> None:
    tell("mon.raise", "always")
    rest = command("run", "apart", "--from", "mon", "--to", "tue", "--keep-going")
    assert (rest.status, values(tables.child("days", "apart"), "day")) == (1, ["tue"])


def test_a_run_that_is_killed_is_continued_by_itself(
    command: Command, instance: dg.DagsterInstance, tables: Location
) -> None:
    tell("b.kill")
    done = command("run", "resumed", "--json")
    said = done.document["runs"][0]
    assert (done.status, said["success"], said["failure"], len(said["runs"])) == (0, True, None, 2)
    assert [evidence.steps_of(instance, run) for run in said["runs"]] == [
        ["shop__a", "shop__b"],
        ["shop__b", "shop__c"],
    ]
    killed, later = (instance.get_run_by_id(run) for run in said["runs"])
    assert (killed.status.value, later.tags["pipeline_assets/answers"]) == ("FAILURE", killed.run_id)
    assert said["recovery"] == [f"resume by run {later.run_id}"]
    evidence.all_lawful(instance, [tables.child("shop", name) for name in "abc"])


def test_what_a_failed_chain_committed_is_undone_by_itself(
    command: Command, instance: dg.DagsterInstance, tables: Location
) -> None:
    tell("c.raise")
    done = command("run", "undone")
    assert done.status == 1
    assert shown(tables) == {"a": 0, "b": 0, "c": 0}
    assert done.last[2] == "on disk   nothing of this run"
    recovery, failed = instance.get_runs()
    assert (recovery.job_name, recovery.status.value) == ("recovery_job", "SUCCESS")
    assert recovery.tags["pipeline_assets/answers"] == failed.run_id
    assert failed.is_failure


def test_only_what_failed_and_what_follows_is_undone_by_itself(
    command: Command, instance: dg.DagsterInstance, tables: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_ASSETS_CRASH", "after_commit:shop/b")
    done = command("run", "undone_failed")
    assert done.status == 1
    assert shown(tables) == {"a": 2, "b": 0, "c": 0}
    assert done.last[2] == "on disk   shop/a version 0; nothing else was written"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["nonsense"], "has no pipeline nonsense, .* it has .*shop_job.*together"),
        (["shop", "--partition", "mon"], "shop_job has no partitions"),
        (["together"], r"say which: --partition K, or --from K --to K \(mon, tue, wed\)"),
        (["together", "--partition", "sun"], "has no partition sun.* there are mon, tue, wed"),
        (["together", "--from", "wed", "--to", "mon"], "There is no partition from wed to mon"),
        (["shop", "--select", "(("], "selects nothing: Invalid selection string"),
        (["shop", "--select", 'key:"days/apart"'], "selects no stage of shop_job, which has shop/a, shop/b, shop/c"),
        (["shop", "--config", "wrong.yaml"], "shop_job was not started: .*ops"),
        (["shop", "--config", "broken.yaml"], "broken.yaml holds no run configuration"),
    ],
)
def test_what_cannot_be_run_is_refused_and_nothing_is_started(
    arguments: list[str],
    why: str,
    command: Command,
    instance: dg.DagsterInstance,
    tables: Location,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wrong.yaml").write_text("ops: {nobody: {}}")
    Path("broken.yaml").write_text("ops: [")
    done = command("run", *arguments)
    assert done.status == 3, done.err
    assert re.search(why, done.err, re.DOTALL)
    assert instance.get_runs() == []
    assert os.listdir(tables.uri) == []


@pytest.mark.parametrize("arguments", [["--from", "mon"], ["--partition", "mon", "--from", "mon", "--to", "tue"]])
def test_half_a_range_is_wrong_usage(arguments: list[str], command: Command) -> None:
    assert command("run", "together", *arguments).status == 2


def test_a_refresh_that_fails_ends_with_the_four_lines_and_its_log_is_the_run_s(
    command: Command, instance: dg.DagsterInstance, tables: Location, home: Path
) -> None:
    job = recovering_location.definitions().resolve_job_def("shop_job")
    for _ in range(2):
        job.execute_in_process(instance=instance, tags={FORCE_TAG: "true"})
    newest = instance.get_runs()[0].run_id
    tell("c.raise", "always")
    done = command("rollback", "--undo", newest, "--stage", "shop/b", "--yes", "--refresh")
    run = instance.get_runs()[0].run_id
    assert done.status == 1
    assert done.err.splitlines() == [
        "stage     shop/c",
        "why       Told: c was told to",
        "on disk   shop/b version 4; nothing else was written",
        f"continue  pipeline-assets resume {run} -m {MODULE}",
    ]
    kept = [path.read_text() for path in (home / "storage" / run).rglob("*.err")]
    assert any("Told: c was told to" in text for text in kept)
