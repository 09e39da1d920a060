"""Kill the flights pipeline with SIGKILL, resume it, and look whether anything shows.

    python -m pipeline_assets_tests.campaigns.kills --matrix [--s3] [--processes]
    python -m pipeline_assets_tests.campaigns.kills --seed 1 --kills 200 [--s3] [--processes]

--matrix: every fault point × every stage. --kills: so many kills at random moments, of the run and of the runs that
resume it. --processes: a process for each step; a random kill then ends the run's own process or all of them.
Prints each kill and the phase in which it landed; ends with 1 where anything was wrong.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dagster as dg

from pipeline_assets import faults
from pipeline_assets.delta.location import Location
from pipeline_assets.settings import source_folder
from pipeline_assets_tests.campaigns.scene import DAY, Scene, Wrong
from pipeline_assets_tests.conftest import INSTANCE
from pipeline_assets_tests.recovery import children
from pipeline_assets_tests.recovery.flights_in_processes import STAGES, definitions
from pipeline_assets_tests.seaweed import S3, seaweed

MORE_KILLS = 0.4
"""How often a run that resumes is killed as well."""


class Campaign:
    """What all cases share, and what came of them."""

    def __init__(self, folder: Path, processes: bool, server: S3 | None) -> None:
        self.folder, self.server = folder, server
        self.module = children.FLIGHTS_IN_PROCESSES if processes else children.FLIGHTS
        self.never_failed = Location.of(str(folder / "never_failed"))
        self.phases: Counter[str] = Counter()
        self.wrong = self.cases = 0
        self._reference()

    def _reference(self) -> None:
        os.environ.update(PIPELINE_ASSETS_ROOT=self.never_failed.uri, DAGSTER_HOME=str(self.folder))
        job = definitions(dg.in_process_executor).resolve_implicit_global_asset_job_def()
        with dg.DagsterInstance.ephemeral() as instance:
            assert job.execute_in_process(partition_key=DAY, instance=instance).success
        self.source = source_folder()

    @contextmanager
    def scene(self, name: str) -> Iterator[tuple[Scene, dg.DagsterInstance]]:
        """An empty root, and an empty Dagster instance; what was wrong is printed and counted."""
        home = self.folder / f"case-{self.cases}"
        home.mkdir()
        (home / "dagster.yaml").write_text(INSTANCE)
        root, variables = Location.of(str(home / "tables")), {}
        if self.server is not None:
            s3 = self.server.under(home.name)
            root, variables = Location.of(s3.uri, s3.storage_options), s3.storage_options
        variables = {**variables, "PIPELINE_ASSETS_ROOT": root.uri, "DAGSTER_HOME": str(home)}
        os.environ.update(variables)
        source_folder().parent.mkdir(parents=True)
        source_folder().symlink_to(self.source)
        self.cases += 1
        try:
            with dg.DagsterInstance.from_config(str(home)) as instance:
                yield Scene(home, root, self.module, variables), instance
            shutil.rmtree(home)
        except Exception:  # noqa: BLE001  a campaign counts what goes wrong, and goes on
            self.wrong += 1
            print(f"WRONG {name}, kept in {home.name}:\n{traceback.format_exc()}", flush=True)

    def matrix(self) -> None:
        """Every fault point × every stage."""
        for point in faults.POINTS[:4]:
            for stage in STAGES:
                name = f"{point} {stage}"
                with self.scene(name) as (scene, instance):
                    child = scene.ready("dagster", children.crash_at(point, f"flights/{stage}"))
                    if scene.go(child) == 0:
                        raise Wrong("it was not killed")
                    self._note(name, scene, instance)
                    self._resume(scene, instance, None)

    def at_random(self, seed: int, kills: int) -> None:
        """So many kills at random moments."""
        seconds = self._calibrate()
        print(f"a run takes {seconds:.1f} s from its command on", flush=True)
        while sum(self.phases.values()) < kills:
            rng = random.Random(f"{seed}/{self.cases}")
            name = f"case {self.cases}"
            with self.scene(name) as (scene, instance):
                wait, group = rng.uniform(0, seconds), rng.random() < 0.5
                killed = scene.go(scene.ready("dagster"), wait, group) is None
                while killed and self._note(f"{name} at {wait:.2f} s", scene, instance) != "after the run":
                    wait, group = rng.uniform(0, seconds), rng.random() < 0.5
                    killed = self._resume(scene, instance, wait if rng.random() < MORE_KILLS else None, group)
                scene.check(instance, self.never_failed)

    def _calibrate(self) -> float:
        with self.scene("calibration") as (scene, instance):
            child = scene.ready("dagster")
            began = time.monotonic()
            if scene.go(child) != 0:
                raise Wrong("a run that nobody killed failed")
            taken = time.monotonic() - began
            scene.check(instance, self.never_failed)
        return taken

    def _note(self, name: str, scene: Scene, instance: dg.DagsterInstance) -> str:
        scene.await_the_end_of_workers(instance)
        phase = scene.phase(instance)
        self.phases[phase] += 1
        print(f"{sum(self.phases.values()):4} {name}: {phase}", flush=True)
        return phase

    def _resume(self, scene: Scene, instance: dg.DagsterInstance, seconds: float | None, group: bool = True) -> bool:
        """Resume (or launch what had not been started); whether that was killed, too."""
        runs = instance.get_runs()
        begun = any(run.status is not dg.DagsterRunStatus.NOT_STARTED for run in runs)
        finished = scene.finished(instance)
        status = scene.go(scene.ready("pipeline-assets" if begun else "dagster"), seconds, group)
        if status not in (0, None):
            raise Wrong(f"it ended with {status}:\n{scene.log()[-3000:]}")
        now = scene.versions()
        moved = {stage: (version, now[stage]) for stage, version in finished.items() if now[stage] != version}
        if moved:
            raise Wrong(f"finished stages moved: {moved}")
        if status == 0:
            scene.check(instance, self.never_failed)
        return status is None


def main() -> int:
    """The campaign that the command line asks for; 0 where nothing was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--matrix", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--processes", action="store_true")
    asked = parser.parse_args()
    commit = subprocess.check_output(["git", "-C", str(children.PROJECT), "rev-parse", "HEAD"], text=True).strip()
    print(f"commit {commit}, {' '.join(sys.argv[1:])}", flush=True)
    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="kills-"))
        server = stack.enter_context(seaweed(folder / "s3")) if asked.s3 else None
        campaign = Campaign(folder, asked.processes, server)
        if asked.matrix:
            campaign.matrix()
        if asked.kills:
            campaign.at_random(asked.seed, asked.kills)
    print(
        f"\n{sum(campaign.phases.values())} kills in {campaign.cases} cases, {time.monotonic() - began:.0f} s; phases:"
    )
    for phase, count in sorted(campaign.phases.items()):
        print(f"  {count:4} {phase}")
    print(f"wrong: {campaign.wrong}")
    if not campaign.wrong:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if campaign.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
