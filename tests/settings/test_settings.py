"""One table of settings: flags beat the environment beats defaults, every wrong one is named, secrets stay hidden."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from loads_queue.options import option, settings_of
from loads_queue.settings import (
    BY_NAME,
    TABLE,
    Settings,
    SettingsError,
    private_environment,
    read_settings,
    unknown_variables,
    without_password,
)

HOME = {"HOME": "/nowhere"}
EXAMPLES = {
    "home": ("/here", Path("/here")),
    "broker": ("redis://h/1", "redis://h/1"),
    "queue_prefix": ("mine-", "mine-"),
    "secret": ("hush", b"hush"),
    "db": ("postgresql://h/n", "postgresql://h/n"),
    "files": ("/files", Path("/files")),
    "listen": ("[::1]:80", "[::1]:80"),
    "lease_ttl": ("1m30s", 90_000_000_000),
    "max_attempts": ("7", 7),
    "slots": ("3", 3),
    "region": ("eu-west-1", "eu-west-1"),
    "name": ("w1", "w1"),
    "allowed_targets": ("*.example.com:443", "*.example.com:443"),
    "engine_path": ("greenlets", "greenlets"),
    "drain_after": ("0", 0),
    "server": ("http://h:8089", "http://h:8089"),
    "token": ("t", "t"),
    "log_format": ("json", "json"),
}
WRONG = {
    "queue_prefix": "a b",
    "listen": "localhost",
    "lease_ttl": "4s",
    "max_attempts": "0",
    "slots": "many",
    "region": "../x",
    "name": "a/b",
    "drain_after": "-1s",
    "server": "ftp://h",
    "log_format": "xml",
}


def test_the_table_and_the_dataclass_say_the_same() -> None:
    fields = [field.name for field in dataclasses.fields(Settings)]
    assert sorted(fields) == sorted([setting.field for setting in TABLE] + ["sources"])
    assert set(EXAMPLES) == set(BY_NAME)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_variable_beats_the_default_and_a_flag_beats_it(name: str) -> None:
    setting, (text, value) = BY_NAME[name], EXAMPLES[name]
    default = read_settings(HOME)
    assert default.sources[name] == "default" and getattr(default, setting.field) != value
    from_env = read_settings({**HOME, setting.env: text})
    assert (getattr(from_env, setting.field), from_env.sources[name]) == (value, setting.env)
    other = "http://elsewhere" if name == "server" else text
    from_flag = read_settings({**HOME, setting.env: WRONG.get(name, "x")}, {name: other})
    assert from_flag.sources[name] == "flag"
    assert name == "server" or getattr(from_flag, setting.field) == value


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_variable_set_to_nothing_is_not_set(name: str) -> None:
    assert read_settings({**HOME, BY_NAME[name].env: ""}) == read_settings(HOME)


def test_every_wrong_setting_is_named_at_once() -> None:
    environ = {**HOME, **{BY_NAME[name].env: text for name, text in WRONG.items()}}
    with pytest.raises(SettingsError) as caught:
        read_settings(environ, {"slots": "0", "region": None})
    text = str(caught.value)
    assert all(BY_NAME[name].env in text for name in WRONG if name != "slots")
    assert "--slots: '0' is not a whole number from 1 to 10000" in text and "LOADS_SLOTS" not in text
    assert caught.value.exit_code == 2


def test_what_depends_on_the_home_follows_it() -> None:
    found = read_settings({"LOADS_HOME": "/a b?c"})
    assert (found.db, found.files) == ("sqlite:////a%20b%3Fc/loads.sqlite3", Path("/a b?c/files"))


@given(st.dictionaries(st.sampled_from(sorted(BY_NAME)), st.text(st.characters(exclude_categories=["Cs"]), min_size=1)))
def test_no_text_breaks_it_in_another_way(flags: dict[str, str]) -> None:
    try:
        found = read_settings(HOME, flags)
    except SettingsError as error:
        assert str(error).startswith("--") or str(error).startswith("LOADS_")
        return
    assert {name for name, source in found.sources.items() if source == "flag"} == set(flags)


def test_secrets_are_in_no_repr() -> None:
    found = read_settings({**HOME, "LOADS_SECRET": "hush-hush", "LOADS_TOKEN": "let-me-in"})
    assert "hush" not in repr(found) and "let-me" not in repr(found)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://ann:pass@h:5672//", "amqp://ann:***@h:5672//"),
        ("sqs://embedded:a:b@127.0.0.1:1//", "sqs://embedded:***@127.0.0.1:1//"),
        ("redis://:pass@h/0", "redis://:***@h/0"),
        ("postgresql://h/n?password=pass&sslmode=require", "postgresql://h/n?password=***&sslmode=require"),
        ("redis://h/0", "redis://h/0"),
        ("http://[::1", "***"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_a_misspelt_variable_is_told_and_a_plans_secret_is_none() -> None:
    environ = {"LOADS_SLOT": "1", "LOADS_SECRET_KEY": "x", "LOADS_HOME": "/", "OTHER": "1"}
    assert unknown_variables(environ) == ["LOADS_SLOT is not a setting: did you mean LOADS_SLOTS?"]


def test_a_runs_own_cluster_knows_the_targets_and_plan_secrets_but_no_other_cluster() -> None:
    environ = {
        "PATH": "/bin", "LOADS_SECRET": "s", "LOADS_SECRET_KEY": "k", "LOADS_BROKER": "redis://h", "LOADS_NAME": "w",
        "LOADS_ALLOWED_TARGETS": "h", "LOADS_DRAIN_AFTER": "1s", "LOADS_TOKEN": "t", "LOADS_REGION": "r",
        "LOADS_ENGINE_PATH": "greenlets",
    }  # fmt: skip
    kept = {"PATH": "/bin", "LOADS_SECRET_KEY": "k", "LOADS_ALLOWED_TARGETS": "h", "LOADS_ENGINE_PATH": "greenlets"}
    assert private_environment(environ) == kept


def test_options_hand_their_texts_to_the_same_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    @option("slots")
    @option("lease_ttl")
    def command(**flags: str | None) -> None:
        found = settings_of(flags)
        click.echo(f"{found.slots} {found.lease_ttl_ns} {found.region}")

    monkeypatch.setenv("LOADS_REGION", "eu")
    done = CliRunner().invoke(command, ["--slots", "2", "--lease-ttl", "6s"])
    assert done.output == "2 6000000000 eu\n"
    done = CliRunner().invoke(command, ["--slots", "-2"])
    assert isinstance(done.exception, SettingsError)
    shown = CliRunner().invoke(command, ["--help"]).output
    assert "LOADS_SLOTS" in shown and "the number of processors" in " ".join(shown.split())


def test_the_manual_has_every_setting() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    for setting in TABLE:
        (row,) = (line for line in manual.splitlines() if line.startswith(f"| `{setting.env}` |"))
        flag = "" if setting.name == "home" else setting.flag or "none"
        assert row.split("|")[2].strip().strip("`") == flag


# The command


def config(tmp_path: Path, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LOADS_")}
    code = "import sys; from loads_queue.cli import main; main(['config', *sys.argv[1:]])"
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True, text=True, timeout=60, env={**clean, "LOADS_HOME": str(tmp_path), **environ},
    )  # fmt: skip


def test_config_shows_values_and_where_they_come_from(tmp_path: Path) -> None:
    broker = {"url": "sqs://embedded:hush@127.0.0.1:9//", "pid": os.getpid()}
    (tmp_path / "broker.json").write_text(json.dumps(broker))
    (tmp_path / "token").write_text("let-me-in")
    done = config(tmp_path, "--json", LOADS_SECRET="hush", LOADS_DB="postgresql://ann:hush@h/n", LOADS_LEASE_TTL="7s")
    assert done.returncode == 0, done.stderr
    assert "hush" not in done.stdout and "let-me-in" not in done.stdout
    shown = {each["name"]: (each["value"], each["source"]) for each in json.loads(done.stdout)}
    assert list(shown) == list(BY_NAME)
    assert shown["home"] == (str(tmp_path), "LOADS_HOME")
    assert shown["broker"] == ("sqs://embedded:***@127.0.0.1:9//", "broker.json in LOADS_HOME")
    assert shown["db"] == ("postgresql://ann:***@h/n", "LOADS_DB")
    assert shown["secret"] == ("***", "LOADS_SECRET")
    assert shown["token"] == ("***", "token in LOADS_HOME")
    assert shown["lease_ttl"] == ("7s", "LOADS_LEASE_TTL")
    assert shown["max_attempts"] == ("5", "default")
    assert shown["name"] == (None, "default: made up from the host's")


def test_config_is_a_table_for_people_and_tells_of_misspellings(tmp_path: Path) -> None:
    done = config(tmp_path, LOADS_SLOTS="3", LOADS_BROKR="x")
    lines = {line.split()[0]: line.split(maxsplit=2)[1:] for line in done.stdout.splitlines()}
    assert lines["LOADS_SLOTS"] == ["3", "LOADS_SLOTS"]
    assert set(lines) == {setting.env for setting in TABLE}
    assert "LOADS_BROKR is not a setting: did you mean LOADS_BROKER?" in done.stderr


def test_config_names_what_is_wrong(tmp_path: Path) -> None:
    done = config(tmp_path, LOADS_SLOTS="none", LOADS_LEASE_TTL="1s")
    assert done.returncode == 2
    assert "LOADS_SLOTS: 'none' is not" in done.stderr
    assert "LOADS_LEASE_TTL: '1s' is not a duration from 5s to 3600s" in done.stderr
