"""Plan files: a path on the command line becomes a checked plan, the document of its Job, and the files it needs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, NoReturn

from loads_queue.model.plan import PLAN, Plan, load_plan
from loads_queue.model.problems import Path, PlanError, Problem, line_of, nearest, path_text
from loads_queue.model.units import shown

from .jobs import check_jmespath
from .json_lines import json_lines
from .overrides import Overrides, apply
from .plan_files import PlanFiles
from .yaml_document import parse_yaml

LARGEST = 4 * 1024 * 1024
PROJECT_KEYS = ("name", "plans")
NO_OVERRIDES = Overrides()


@dataclass(frozen=True)
class Loaded:
    """One plan of a file. ``document`` goes into a Job as it is, with ``--set`` in its env already."""

    document: dict[str, Any]
    plan: Plan
    project: str
    files: dict[str, str]
    """Absolute paths of the files that the plan needs, by the names it gives them."""

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What can be run and was likely not meant."""
        return self.plan.warnings


def read(path: str, plan_name: str | None = None, overrides: Overrides = NO_OVERRIDES) -> Loaded:
    """The plan of a file, or the one called ``plan_name``; raises PlanError with every problem."""
    source = _Source(path)
    places = source.places()
    chosen = [place for place in places if plan_name is None or source.name_of(place) == plan_name]
    names = ", ".join(repr(source.name_of(place)) for place in places)
    if not chosen:
        raise PlanError([Problem("--plan", f"the file has no plan {plan_name!r}; it has {names}")])
    if len(chosen) > 1:
        raise PlanError([Problem("plans", f"several plans: choose one with --plan: {names}", source.line(("plans",)))])
    return source.load(chosen[0], overrides)


def read_all(path: str, plan_name: str | None = None, overrides: Overrides = NO_OVERRIDES) -> list[Loaded]:
    """Every plan of a file (or the one that is named); raises PlanError with the problems of all of them."""
    if plan_name is not None:
        return [read(path, plan_name, overrides)]
    source = _Source(path)
    loaded: list[Loaded] = []
    problems: list[Problem] = []
    for place in source.places():
        try:
            loaded.append(source.load(place, overrides))
        except PlanError as error:
            problems.extend(error.problems)
    if problems:
        raise PlanError(dict.fromkeys(problems))
    return loaded


class _Source:
    """One file, parsed: a project with ``plans``, or one plan by itself."""

    def __init__(self, path: str) -> None:
        self._path = FilePath(path)
        self._document, self._lines = _parse(self._path)
        if not isinstance(self._document, dict):
            raise PlanError([Problem("", f"not a plan (a mapping with `steps` or `plans`): {shown(self._document)}")])
        self._is_project = "plans" in self._document
        self.project = ""
        if self._is_project:
            self._check_project()

    def line(self, path: Path) -> int | None:
        """The line of a path."""
        return line_of(path, self._lines)

    def places(self) -> list[Path]:
        """Where in the file its plans stand."""
        return [("plans", index) for index in range(len(self._document["plans"]))] if self._is_project else [()]

    def name_of(self, place: Path) -> str:
        """The name of the plan there: its own, or one made from its place or the file's name."""
        plan = self._plan(place)
        if isinstance(plan, dict) and isinstance(plan.get("name"), (str, int, float)):
            return str(plan["name"])
        return f"plan {int(place[1]) + 1}" if place else (self._path.stem or "plan")

    def load(self, place: Path, overrides: Overrides) -> Loaded:
        """Check the plan there; raises PlanError."""
        raw = self._plan(place)
        if not isinstance(raw, dict):
            raise PlanError([Problem(path_text(place), f"not a plan: {shown(raw)}", self.line(place))])
        document = apply(raw if "name" in raw else {"name": self.name_of(place), **raw}, overrides)
        files = PlanFiles(self._path.parent)
        plan = load_plan(
            document,
            project=self.project,
            lines=self._lines,
            prefix=place,
            check_file=files.check,
            check_jmespath=check_jmespath,
        )
        self._check_shards(plan, place, overrides.workers)
        return Loaded(document, plan, self.project, {name: files.found[name] for name in plan.files})

    def _check_shards(self, plan: Plan, place: Path, workers: int | None) -> None:
        problems: list[Problem] = []
        for step in plan.steps:
            try:
                plan.shards_of(step, None, workers)
            except PlanError as error:
                path = (*place, "steps", step.index, "load", "max_in_flight")
                problems.extend(Problem(path_text(path), each.message, self.line(path)) for each in error.problems)
        if problems:
            raise PlanError(problems)

    def _plan(self, place: Path) -> Any:
        return self._document["plans"][place[1]] if place else self._document

    def _check_project(self) -> None:
        problems = []
        for key in self._document:
            if key not in PROJECT_KEYS:
                hint = " (it belongs into a plan)" if key in PLAN.fields else nearest(key, PROJECT_KEYS)
                problems.append(Problem(path_text((key,)), f"unknown key{hint}", self.line((key,))))
        name, plans = self._document.get("name", ""), self._document["plans"]
        if not isinstance(name, str):
            problems.append(Problem("name", f"not a text: {shown(name)}", self.line(("name",))))
        if not isinstance(plans, list) or not plans:
            problems.append(Problem("plans", f"not a list of plans: {shown(plans)}", self.line(("plans",))))
            raise PlanError(problems)
        self.project = name if isinstance(name, str) else ""
        seen: set[str] = set()
        for place in self.places():
            if self.name_of(place) in seen:
                path = (*place, "name")
                problems.append(Problem(path_text(path), f"a second plan {self.name_of(place)!r}", self.line(path)))
            seen.add(self.name_of(place))
        if problems:
            raise PlanError(problems)


def _parse(path: FilePath) -> tuple[Any, dict[Path, int]]:
    try:
        if path.stat().st_size > LARGEST:
            raise PlanError([Problem("", f"{path} is larger than {LARGEST} bytes: put data into a data file")])
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None) or error
        raise PlanError([Problem("", f"can't read {str(path)!r}: {reason}")]) from None
    return parse_text(text, is_json=path.suffix.lower() == ".json")


def parse_text(text: str, *, is_json: bool = False) -> tuple[Any, dict[Path, int]]:
    """The document in a text and the line of every path; raises PlanError."""
    if not is_json:
        return parse_yaml(text)
    try:
        document = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_refuse_constant)
        return document, json_lines(text)
    except json.JSONDecodeError as error:
        raise PlanError([Problem("", f"not JSON: {error.msg}", error.lineno)]) from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise PlanError([Problem("", f"not JSON: {reason}")]) from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the key {key[:60]!r} twice")
        made[key] = value
    return made


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")
