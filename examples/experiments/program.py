"""What `ilf experiment` does: declares the studies for a task and a size, runs them, and writes their reports."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from examples.experiments.services import feedback_program, own_services
from examples.experiments.sizes import SIZES, Size
from examples.experiments.slf5k import Slf5k
from examples.experiments.studies import STUDIES
from examples.experiments.word_removal import PROGRAM, SHIPPED, SHIPPED_MODEL, WordRemoval
from examples.experiments.word_table import FAMILY, served_name
from ilf_client import AsyncClient
from ilf_client.endpoints import Endpoints, Security
from ilf_client.evaluation.files import owned
from ilf_client.experiments.lab import Lab, Shelf
from ilf_client.experiments.reports import summary, write_report
from ilf_client.experiments.runner import MODELS, Results, gathered, note_models, plan, run_study, served_models
from ilf_client.experiments.study import Study
from ilf_client.experiments.task import Task
from ilf_client.files import new_file
from ilf_common.errors import InvalidArgumentError

Say = Callable[[str], None]
Access = tuple[Endpoints, Security]
"""Where the services are, and how to talk to them."""

TASKS = (WordRemoval.name, Slf5k.name)
SUMMARY = "experiments.md"
_MODEL_FOLDER = "models"


@dataclass(frozen=True)
class Bench:
    """A task at a size, and where its results lie.

    Attributes:
        task: What the experiments run on.
        size: How large they are.
        folder: Of all experiments of this machine.
    """

    task: Task
    size: Size
    folder: Path

    def studies(self, names: Sequence[str]) -> list[Study]:
        """The studies of these names; of none, all that the task allows."""
        chosen = names or [name for name in STUDIES if name != "word-removal" or isinstance(self.task, WordRemoval)]
        return [STUDIES[name](self.task, self.size) for name in chosen]

    @property
    def home(self) -> Path:
        """Of this task."""
        return self.folder / self.task.name

    @property
    def reports(self) -> Path:
        """Where the reports of this size are written."""
        return self.home / self.size.name

    @property
    def heading(self) -> str:
        """What a report is of."""
        return (
            f"Task {self.task.name}, size {self.size.name}; the score is {self.task.score_means}; "
            "± is one standard error."
        )

    def shelf(self, models: Mapping[str, str] | None = None) -> Shelf:
        """The finished steps, by default of the models that were served the last time."""
        file = self.home / MODELS
        if models is None:
            models = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        return Shelf(self.task, models, self.home / "steps")

    def plan(self, names: Sequence[str]) -> list[tuple[str, str, bool]]:
        """Every step of the studies: kind, title, and whether it is finished."""
        return plan(self.shelf(), self.studies(names))

    def results(self, names: Sequence[str]) -> list[tuple[Study, Results]]:
        """What is known of the studies, without services."""
        shelf = self.shelf()
        return [(study, gathered(shelf, study)) for study in self.studies(names)]

    def write(self, results: Sequence[tuple[Study, Results]]) -> Path:
        """Writes these studies' reports, and the page of all studies anew; answers the page."""
        for study, found in results:
            write_report(study, found, self.reports, self.heading)
        page = self.reports / SUMMARY
        with new_file(page) as stream:
            stream.write(summary(self.results(()), self.heading))
        return page


def bench(
    task: str,
    size: str,
    folder: Path,
    *,
    seeds: int | None = None,
    data: Path | None = None,
    config: Path | None = None,
    overrides: Sequence[str] = (),
) -> Bench:
    """The bench that the command's options mean.

    Args:
        task: One of `TASKS`.
        size: One of `SIZES`.
        folder: Where everything lies.
        seeds: Instead of the size's own.
        data: slf5k: the folder of the data set's files.
        config: slf5k: a run's YAML with the user's models.
        overrides: slf5k: `a.b=value`.

    Raises:
        InvalidArgumentError: An option is missing, or has no place here.
    """
    scaled = SIZES[size] if seeds is None else replace(SIZES[size], seeds=seeds)
    if task == Slf5k.name:
        if data is None or config is None:
            raise InvalidArgumentError.of("--data", "and --config are wanted with --task slf5k: its files and your run")
        return Bench(Slf5k(data, config, tuple(overrides)), scaled, folder)
    if data is not None or config is not None or overrides:
        raise InvalidArgumentError.of(
            "--data", "--config and --set belong to --task slf5k; word-removal brings its own"
        )
    return Bench(WordRemoval(family(folder)), scaled, folder)


def family(folder: Path) -> dict[str, Path]:
    """Directories of the model family by size, as far as they are made; the shipped one always is."""
    made = {size: folder / _MODEL_FOLDER / size for size in FAMILY if size != SHIPPED}
    return {**{size: path for size, path in made.items() if (path / "README.md").is_file()}, SHIPPED: SHIPPED_MODEL}


def run(on: Bench, names: Sequence[str], access: Access | None, parallel: int, say: Say) -> list[tuple[Study, Results]]:
    """Runs studies and writes each one's report as soon as it has ended.

    Args:
        on: Task, size and folder.
        names: Studies; none means all.
        access: The services; None starts own ones.
        parallel: Arms in work at a time.
        say: Is told what is made.

    Raises:
        IlfError: A service failed in a way that another attempt may mend; a repeat goes on from there.
    """
    with owned(on.home), services(on, access, say) as (places, feedback_address):
        return asyncio.run(_run(on, names, places, feedback_address, parallel, say))


async def _run(
    on: Bench, names: Sequence[str], places: Access, feedback_address: str, parallel: int, say: Say
) -> list[tuple[Study, Results]]:
    endpoints, security = places
    made = []
    async with AsyncClient(endpoints, security=security) as client:
        models = await served_models(client, on.task)
        note_models(on.home, models)
        lab = Lab(client, on.shelf(models), feedback_address=feedback_address, say=say)
        for study in on.studies(names):
            say(f"{study.name}: {len(study.arms)} arms")
            made.append((study, await run_study(lab, study, parallel)))
            on.write(made[-1:])
    return made


@contextmanager
def services(on: Bench, access: Access | None, say: Say) -> Iterator[tuple[Access, str]]:
    """Where the services and the task's feedback program are; own services are stopped at the end."""
    if not isinstance(on.task, WordRemoval):
        if access is None:
            raise InvalidArgumentError.of("--server", "start the services with your models first, with `ilf up`")
        yield access, ""
        return
    with feedback_program(on.home, PROGRAM) as address:
        if access is not None:
            yield access, address
            return
        served = {served_name(size): path for size, path in on.task.models.items()}
        with own_services(on.folder / "stack", served, say) as endpoints:
            yield (endpoints, Security.from_environment()), address


def make_models(folder: Path, sizes: Sequence[str], seed: int, threads: int, say: Say) -> list[Path]:
    """Trains the sizes of the family that are not made yet, each in a process of its own; answers their directories."""
    made = []
    for size in sizes or [size for size in FAMILY if size != SHIPPED]:
        output = folder / _MODEL_FOLDER / size
        if (output / "README.md").is_file():
            say(f"{size}: made already, in {output}")
        else:
            command = [sys.executable, "-m", "examples.word_removal.make_model", "--size", size, "--seed", str(seed)]
            subprocess.run([*command, "--threads", str(threads), "--output", str(output)], check=True)
        made.append(output)
    return made
