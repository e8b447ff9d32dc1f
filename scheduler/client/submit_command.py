"""The command ``loads submit``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loads_queue.options import settings_of

from ..run_command import LOAD_OPTIONS, warn, with_options
from .options import as_json, connected, show_json, to_server

if TYPE_CHECKING:
    from ..overrides import Overrides
    from .follow import Submission


@click.command()
@click.argument("plan", metavar="PLAN")
@click.option("--plan", "plan_name", metavar="NAME", help="Which plan of a file with several.")
@click.option("--set", "sets", multiple=True, metavar="K=V", help="A value for ${K} in the plan; may be repeated.")
@with_options(*LOAD_OPTIONS)
@click.option("--workers", type=click.IntRange(1, 10_000), metavar="N", help="Shards of each `workers: auto` step.")
@click.option("--id", "run", metavar="RUN", help="The run's id; submitting it again changes nothing.")
@click.option("--priority", type=click.IntRange(-1000, 1000), metavar="N", help="Higher ones get free workers first.")
@click.option("--detach", "-d", is_flag=True, help="Print the run's id and leave it alone.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for summary.json and timeline.csv.  [default: loads-results/RUN_ID]",
)
@click.option("--quiet", "-q", is_flag=True, help="Print the verdict only.")
@to_server
@click.option(
    "--broker", metavar="URL", help="Publish the job on this broker instead; implies --detach, without files."
)
@as_json
def submit(
    plan: str,
    plan_name: str | None,
    sets: tuple[str, ...],
    rate: str | None,
    users: str | None,
    duration: str | None,
    iterations: str | None,
    workers: int | None,
    run: str | None,
    priority: int | None,
    detach: bool,
    out: Path | None,
    quiet: bool,
    server: str | None,
    token: str | None,
    broker: str | None,
    as_json: bool,
) -> None:
    """Run a plan on a cluster, follow it and say how it went.

    PLAN is a file, YAML or JSON, or the name of a plan that is stored there. The screen, the files and the exit codes
    are those of `loads run`. Ctrl-C asks whether to abort the run or to leave it alone; without a terminal it aborts.
    With --json or --detach it does not follow the run.
    """
    from ..overrides import Overrides, parse_sets

    overrides = Overrides(parse_sets(sets), rate, users, duration, iterations, None, workers)
    submission = submission_of(plan, plan_name, overrides, run, priority)
    if broker is not None:
        _print_run({"id": _publish(broker, submission)}, as_json)
        return
    from .follow import submit as hand_over
    from .follow import submit_and_follow

    reached = connected(server, token)
    if not (detach or as_json):
        sys.exit(submit_and_follow(reached, submission, out, quiet))
    _print_run(hand_over(reached, submission), as_json)


def _print_run(made: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(made)
    else:
        click.echo(made["id"])


def submission_of(
    plan: str, plan_name: str | None, overrides: Overrides, run: str | None = None, priority: int | None = None
) -> Submission:
    """What to submit: the plan of a file, or a stored one by its name. Raises PlanError and UsageError."""
    from .follow import Submission

    if not Path(plan).is_file():
        if plan_name is not None or overrides.load:
            raise click.UsageError(f"{plan!r} is no file: a stored plan runs as it is, with --set and --workers alone")
        if Path(plan).suffix in (".yaml", ".yml", ".json"):
            raise click.UsageError(f"no such file: {plan}")
        return Submission(plan_ref=plan, run=run, env=overrides.sets, workers=overrides.workers, priority=priority)
    from ..planfile import read

    loaded = read(plan, plan_name, overrides)
    warn(loaded.warnings)
    return Submission(
        document=loaded.document,
        run=run,
        project=loaded.project,
        files={name: Path(path) for name, path in loaded.files.items()},
        workers=overrides.workers,
        priority=priority,
    )


def _publish(broker: str, submission: Submission) -> str:
    """Put the job on its queue, as anybody may who knows the broker; returns the run's id.

    Whether a plan of that name is stored the scheduler alone knows; it refuses the run otherwise.
    """
    import time

    from loads_queue import codec
    from loads_queue.messages import JOBS, Job
    from loads_queue.queue import connect

    from ..local import run_id
    from ..result_files import user

    if submission.files:
        names = ", ".join(submission.files)
        raise click.UsageError(f"--broker carries no files, and the plan needs {names}: use --server")
    settings = settings_of()
    job = Job(
        id=submission.run or run_id(),
        plan=submission.document or {},
        plan_ref=submission.plan_ref,
        project=submission.project,
        env=submission.env,
        owner=user(),
        priority=submission.priority or 0,
        workers=submission.workers,
        submitted_at=time.time_ns(),
    )
    queue = connect(broker, prefix=settings.queue_prefix)
    try:
        queue.declare(JOBS)
        queue.send(JOBS, [codec.encode(job, JOBS, time.time_ns(), settings.secret)])
    finally:
        queue.close()
    return job.id
