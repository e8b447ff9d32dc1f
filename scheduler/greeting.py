"""What `loads scheduler` says in a terminal once it acts: where it is, and what to type next."""

from __future__ import annotations

from loads_queue.address import TOKEN_FILE
from loads_queue.settings import FROM_DEFAULT, Settings


def greeting(settings: Settings, url: str | None, stored: list[str]) -> str:
    """Lines for a person; no secret is in them."""

    def given(name: str) -> bool:
        return settings.sources[name] != FROM_DEFAULT

    home = settings.home
    prefix = f"LOADS_HOME={home} " if given("home") else ""
    commands = {
        f"{prefix}loads worker{' --broker URL' if given('broker') else ''}": "a worker; start as many as you like",
        f"{prefix}loads submit plan.yaml": "run a plan and follow it",
        f"{prefix}loads status": "what runs; then: loads watch RUN",
    }
    width = max(map(len, commands))
    lines = [
        "The scheduler is ready.",
        "",
        f"  address   {url or 'none'}",
        f"  token     {'as given' if given('token') else f'in {home / TOKEN_FILE}'}",
        f"  broker    {'as given' if given('broker') else f'embedded, in {home}'}",
        f"  database  {'as given' if given('db') else home / 'loads.sqlite3'}",
        *(f"  plans     {line}" for line in stored),
        "",
        "In other terminals of this machine:",
        "",
        *(f"  {command:<{width}}   {purpose}" for command, purpose in commands.items()),
        "",
        "Ctrl-C ends the scheduler. Runs are kept, and go on when it is started again.",
        "",
    ]
    return "\n".join(lines)
