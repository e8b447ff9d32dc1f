"""The commands ``loads run`` and ``loads hit``; what they need is imported when they run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from loads_queue.model.problems import Problem

    from .overrides import Overrides


Command = TypeVar("Command", bound=Callable[..., Any])

LOAD_OPTIONS = (
    click.option("--rate", metavar="R", help="Iterations started a second: 50, 300/m, 1/10s."),
    click.option("-u", "--users", metavar="N", help="Users, one iteration after another each. 10:20 is 10, then 20."),
    click.option("--for", "duration", metavar="D", help="For how long: 30s, 5m, 1h30m."),
    click.option("--iterations", metavar="N", help="How many: of each user, or with --rate in all."),
)
_RUN_OPTIONS = (
    click.option("--workers", type=click.IntRange(1, 10_000), metavar="N", help="Shards of each `workers: auto` step."),
    click.option(
        "--out",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Folder for summary.json and timeline.csv.  [default: loads-results/RUN_ID]",
    ),
    click.option("--quiet", "-q", is_flag=True, help="Print the verdict only."),
)


def with_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.command()
@click.argument("plan", metavar="PLAN")
@click.option("--plan", "plan_name", metavar="NAME", help="Which plan of a file with several.")
@click.option("--set", "sets", multiple=True, metavar="K=V", help="A value for ${K} in the plan; may be repeated.")
@with_options(*LOAD_OPTIONS)
@click.option("--hits", metavar="N", help="Loads v1's word for --iterations; 5:10 is 5, then 10.")
@with_options(*_RUN_OPTIONS)
@click.option(
    "--server", metavar="URL", help="The scheduler that has the plan, where PLAN is the name of a stored one."
)
@click.option("--token", metavar="TOKEN", help="Its token.  [env LOADS_TOKEN]")
def run(
    plan: str,
    plan_name: str | None,
    sets: tuple[str, ...],
    rate: str | None,
    users: str | None,
    duration: str | None,
    iterations: str | None,
    hits: str | None,
    workers: int | None,
    out: Path | None,
    quiet: bool,
    server: str | None,
    token: str | None,
) -> None:
    """Run a plan on this machine and say how it went.

    PLAN is a file, YAML or JSON. --rate, --users, --for and --iterations replace the load of a plan with one step.
    With --server it is the name of a plan that is stored there, and runs on that scheduler's workers, as `loads submit`
    has it.

    Exit codes: 0 passed, 1 a threshold failed or the run was aborted elsewhere, 2 a wrong plan or call, 3 incomplete
    or the ledger does not balance, 4 no broker or not enough workers, 130 Ctrl-C (a second one leaves at once).
    """
    from .overrides import Overrides, parse_sets

    overrides = Overrides(parse_sets(sets), rate, users, duration, iterations, hits, workers)
    if server is not None:
        if Path(plan).is_file():
            raise click.UsageError(f"{plan} is a file: `loads submit` runs it on a cluster, `loads run` here")
        sys.exit(_run_stored(plan, plan_name, overrides, server, token, out, quiet))
    if not Path(plan).exists():
        raise click.UsageError(f"no such file: {plan} (a stored plan runs by its name with --server URL)")
    from .planfile import read
    from .run_local import RunRequest, perform

    loaded = read(plan, plan_name, overrides)
    warn(loaded.warnings)
    files = {name: Path(path) for name, path in loaded.files.items()}
    request = RunRequest(loaded.plan, loaded.document, loaded.project, files, workers=workers, out=out, quiet=quiet)
    sys.exit(perform(request))


def _run_stored(
    plan: str,
    plan_name: str | None,
    overrides: Overrides,
    server: str,
    token: str | None,
    out: Path | None,
    quiet: bool,
) -> int:
    """Run a stored plan where it is stored, and follow it; the exit code."""
    from .client.follow import submit_and_follow
    from .client.options import connected
    from .client.submit_command import submission_of

    submission = submission_of(plan, plan_name, overrides)
    return submit_and_follow(connected(server, token), submission, out, quiet)


@click.command()
@click.argument("url")
@with_options(*LOAD_OPTIONS)
@click.option("--method", "-X", metavar="METHOD", help="GET, POST, ...  [default: GET, or POST with --data]")
@click.option("--header", "-H", "headers", multiple=True, metavar="'NAME: VALUE'", help="May be repeated.")
@click.option("--data", "-d", metavar="TEXT", help="A body, sent as it is.")
@with_options(*_RUN_OPTIONS)
def hit(
    url: str,
    rate: str | None,
    users: str | None,
    duration: str | None,
    iterations: str | None,
    method: str | None,
    headers: tuple[str, ...],
    data: str | None,
    workers: int | None,
    out: Path | None,
    quiet: bool,
) -> None:
    """Put load on one URL, without a plan file: --rate or --users, with --for or --iterations."""
    from loads_queue.model.plan import load_plan

    from .jobs import check_jmespath
    from .overrides import Overrides, apply
    from .run_local import RunRequest, perform

    if (rate is None) == (users is None):
        raise click.UsageError("give one of --rate and --users")
    if (duration is None) == (iterations is None):
        raise click.UsageError("give one of --for and --iterations")
    overrides = Overrides({}, rate, users, duration, iterations, None, workers)
    document = apply(hit_document(url, method, headers, data), overrides)
    plan = load_plan(document, check_jmespath=check_jmespath)
    warn(plan.warnings)
    sys.exit(perform(RunRequest(plan, document, workers=workers, out=out, quiet=quiet)))


def hit_document(url: str, method: str | None, headers: tuple[str, ...], data: str | None) -> dict[str, Any]:
    """A plan that makes one request, nothing in it interpolated; raises UsageError for a header that is none."""
    if "://" not in url:
        raise click.UsageError(f"not a URL: {url!r}: write it with http:// or https://")
    action: dict[str, Any] = {"method": (method or ("GET" if data is None else "POST")).upper(), "url": _literal(url)}
    pairs = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise click.UsageError(f"not a header: {header!r}: write it as 'NAME: VALUE'")
        pairs[name.strip()] = _literal(value.strip())
    if pairs:
        action["headers"] = pairs
    if data is not None:
        action["body"] = _literal(data)
    # A name is for people: it need not be the URL to the letter, but it must name nothing.
    name = f"hit {url}".replace("${", "{")[:200]
    return {"name": name, "steps": [{"name": "hit", "http": {"do": [action]}}]}


def _literal(text: str) -> str:
    """A text that a plan takes as it is."""
    return text.replace("$", "$$")


def warn(warnings: tuple[Problem, ...]) -> None:
    """Tell what can be run and was likely not meant."""
    for warning in warnings:
        click.echo(f"loads: warning: {warning}", err=True)
