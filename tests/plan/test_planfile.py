"""Plan files on disk: YAML 1.2 with lines, projects, overrides, data files."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loads.scheduler.overrides import Overrides, parse_sets
from loads.scheduler.planfile import Loaded, parse_text, read, read_all

from loads_queue.model.plan import load_plan
from loads_queue.model.problems import PlanError
from loads_queue.model.profile import ClosedLoad, IterationsLoad, OpenLoad
from loads_queue.model.units import SECOND

EXAMPLES = Path(__file__).parents[2] / "examples"
ONE_STEP = """\
steps:
  - load: {rate: 5, for: 10s, max_in_flight: 7}
    http: {base_url: "http://${HOST}", do: [{get: /}]}
"""


def written(folder: Path, text: str, name: str = "plan.yaml") -> str:
    path = folder / name
    path.write_text(dedent(text))
    return str(path)


def problems_of(path: str, *args: Any) -> list[str]:
    with pytest.raises(PlanError) as caught:
        read(path, *args)
    assert caught.value.exit_code == 2
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("22:22", "22:22"), ("on", "on"), ("yes", "yes"), ("No", "No"), ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("0x1F", 31), ("0o17", 15), ("017", 17), ("+5", 5), ("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5), ("~", None),
        ("null", None), ("", None), ("true", True), ("FALSE", False), ("'5'", "5"), ('"true"', "true"),
        ("!!str 5", "5"),
        ("a<<b", "a<<b"), ("=", "="),
    ],
)  # fmt: skip
def test_the_core_schema(text: str, value: object) -> None:
    document, _ = parse_text(f"k: {text}\n")
    assert document == {"k": value}
    assert type(document["k"]) is type(value)


def test_keys_are_texts_as_written() -> None:
    assert parse_text("on: 1\n200: 2\n1.0: 3\n~: 4\n")[0] == {"on": 1, "200": 2, "1.0": 3, "~": 4}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "a: the same key twice (line 3)"),
        ("a: {x: 1, x: 2}\n", "a.x: the same key twice (line 1)"),
        ("a: !!python/object:os.system x\n",
         "a: tags are not supported: tag:yaml.org,2002:python/object:os.system (line 1)"),
        ("a: !thing [1]\n", "a: tags are not supported: !thing (line 1)"),
        ("? [a]\n: 1\n", "a key that is not a text (line 1)"),
        ("x: &a {k: 1}\ny:\n  <<: *a\n", "y: merge keys (<<) are not part of YAML 1.2: write the keys out (line 3)"),
        ("a: [1,\n",
         "not YAML: while parsing a flow node, expected the node content, but found '<stream end>' (line 2)"),
        ("a: 1\n---\nb: 2\n",
         "not YAML: expected a single document in the stream, but found another document (line 2)"),
        ("a: *nope\n", "not YAML: found undefined alias 'nope' (line 1)"),
        ("a: &x [*x]\n", "nested more than 60 deep (line 1)"),
        ("a: " + "[" * 5000, "nested more than 60 deep"),
        ("a: " + "[" * 100 + "]" * 100, "nested more than 60 deep (line 1)"),
        ("a: " + "9" * 5000, "a: not a number: '9999999999999999999999999999999999999999' (line 1)"),
        ("a: \x07",
         "not YAML: unacceptable character #x0007: special characters are not allowed in "
         "\"<unicode string>\", position 3"),
    ],
)  # fmt: skip
def test_yaml_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_text(text)
    assert [str(problem) for problem in caught.value.problems] == [message]


def test_alias_bombs_are_bounded() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 12):
        bomb += f"a{level}: &a{level} [" + ", ".join([f"*a{level - 1}"] * 10) + "]\n"
    with pytest.raises(PlanError, match="more than 200000 values"):
        parse_text(bomb)


def test_aliases_are_fine_otherwise() -> None:
    assert parse_text("a: &x {k: [1]}\nb: *x\n")[0] == {"a": {"k": [1]}, "b": {"k": [1]}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "not JSON: the key 'a' twice"),
        ('{"a": NaN}', "not JSON: NaN is not a number"),
        ('{"a": 1,\n}', "not JSON: "),
        ("[" * 100_000, "not JSON: nested too deep"),
    ],
)
def test_json_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_text(text, is_json=True)
    (problem,) = caught.value.problems
    assert str(problem).startswith(message)


def test_problems_have_lines(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """\
        name: lines
        steps:
          - load:
              stages:
                - {rate: 1, for: 1s}
                - rate: 5
                  for: 5 parsecs
            http:
              base_url: http://h
              do:
                - get: /
                  chekc: {status: 200}
                - get: /${row.x}
            workers:
              0
        """,
    )
    assert problems_of(path) == [
        "steps[0].workers: not auto or a number from 1 to 10000: 0 (line 14)",
        "steps[0].load.stages[1].for: not a duration: '5 parsecs' (line 7)",
        "steps[0].http.do[0].chekc: unknown key (did you mean 'check'?) (line 12)",
        "steps[0].http.do[1].get: ${row.x}: the step has no data (line 13)",
    ]


def test_a_missing_key_has_the_line_of_what_lacks_it(tmp_path: Path) -> None:
    path = written(tmp_path, "name: x\nsteps:\n  - load: {users: 1, for: 1s}\n    http:\n      base_url: http://h\n")
    assert problems_of(path) == ["steps[0].http: needs 'do' (line 4)"]


def test_a_single_plan(tmp_path: Path) -> None:
    loaded = read(written(tmp_path, ONE_STEP, "checkout.yaml"), None, Overrides({"HOST": "h"}))
    assert (loaded.plan.name, loaded.project, loaded.files) == ("checkout", "", {})
    assert load_plan(loaded.document) == loaded.plan


def test_json_files(tmp_path: Path) -> None:
    document = {"name": "j", "steps": [{"http": {"base_url": "http://h", "do": [{"get": "x"}]}}]}
    path = written(tmp_path, json.dumps(document), "plan.json")
    problem = "steps[0].http.do[0].get: not a path from / or an http:// or https:// URL: 'x'"
    assert problems_of(path) == [f"{problem} (line 1)"]
    assert problems_of(written(tmp_path, json.dumps(document, indent=1), "plan.json")) == [f"{problem} (line 9)"]
    document["steps"] = [{"http": {"do": [{"get": "http://h/"}]}}]
    assert read(written(tmp_path, json.dumps(document), "plan.json")).plan.name == "j"


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text('a"\\{[,:]} '),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text('ab"\\{[,:]}', max_size=3), inner, max_size=4)
        ),
    )
)
def test_json_has_the_lines_that_yaml_finds_in_it(document: Any) -> None:
    text = json.dumps(document, indent=1)
    assert parse_text(text, is_json=True) == (document, parse_text(text)[1])
    assert set(parse_text(json.dumps(document), is_json=True)[1].values()) == {1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a plan (a mapping with `steps` or `plans`): nothing"),
        ("- 1\n", "not a plan (a mapping with `steps` or `plans`): a list"),
        ("plans: []\n", "plans: not a list of plans: a list (line 1)"),
        ("plans: [3]\n", "plans[0]: not a plan: 3 (line 1)"),
        ("name: x\n", "needs 'steps' (line 1)"),
    ],
)
def test_files_without_a_plan(tmp_path: Path, text: str, message: str) -> None:
    assert problems_of(written(tmp_path, text)) == [message]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_bytes(b"name: \xff\n")
    assert problems_of(str(tmp_path / "nope.yaml")) == [f"can't read '{tmp_path}/nope.yaml': No such file or directory"]
    assert problems_of(str(tmp_path)) == [f"can't read '{tmp_path}': Is a directory"]
    assert problems_of(str(tmp_path / "bad.yaml")) == [f"can't read '{tmp_path}/bad.yaml': not UTF-8"]
    assert "null" in problems_of("a\0b")[0]


PROJECT = """\
name: shop
plans:
  - name: small
    steps: [{http: {do: [{get: "http://h/"}]}}]
  - name: large
    steps: [{http: {do: [{get: "http://h/"}]}, workers: none}]
"""


def test_projects(tmp_path: Path) -> None:
    path = written(tmp_path, PROJECT)
    loaded = read(path, "small")
    assert (loaded.plan.name, loaded.project, loaded.plan.project) == ("small", "shop", "shop")
    assert problems_of(path) == ["plans: several plans: choose one with --plan: 'small', 'large' (line 2)"]
    assert problems_of(path, "medium") == ["--plan: the file has no plan 'medium'; it has 'small', 'large'"]
    wrong = "plans[1].steps[0].workers: not auto or a number from 1 to 10000: 'none' (line 6)"
    assert problems_of(path, "large") == [wrong]
    with pytest.raises(PlanError) as caught:
        read_all(path)
    assert [str(problem) for problem in caught.value.problems] == [wrong]


def test_projects_that_are_wrong(tmp_path: Path) -> None:
    text = PROJECT.replace("large", "small").replace("name: shop", "name: [x]\nsteps: []\nplnas: 1")
    assert problems_of(written(tmp_path, text)) == [
        "steps: unknown key (it belongs into a plan) (line 2)",
        "plnas: unknown key (did you mean 'plans'?) (line 3)",
        "name: not a text: a list (line 1)",
        "plans[1].name: a second plan 'small' (line 7)",
    ]


def loaded_with(folder: Path, text: str = ONE_STEP, **changes: Any) -> Loaded:
    return read(written(folder, text), None, Overrides(**{"sets": {"HOST": "h"}, **changes}))


def test_sets_beat_every_env(tmp_path: Path) -> None:
    text = 'env: {HOST: plan}\nsteps: [{env: {HOST: step}, http: {base_url: "http://${HOST}", do: [{get: /}]}}]\n'
    loaded = loaded_with(tmp_path, text)
    assert loaded.plan.steps[0].spec["base_url"] == "http://h"
    assert loaded.warnings == ()
    assert load_plan(loaded.document).steps[0].env == {"HOST": "h"}


def test_sets_are_pairs() -> None:
    assert parse_sets(["A=1", "B=x=y", "A="]) == {"A": "", "B": "x=y"}
    with pytest.raises(PlanError) as caught:
        parse_sets(["A", "=x", "a-b=c"])
    assert [str(problem) for problem in caught.value.problems] == [
        "--set: not NAME=VALUE: 'A'",
        "--set: not NAME=VALUE: '=x'",
        "--set: not NAME=VALUE: 'a-b=c'",
    ]


@pytest.mark.parametrize(
    ("changes", "load"),
    [
        ({"rate": "300/m", "duration": "3s"}, {"rate": "300/m", "for": "3s", "max_in_flight": 7}),
        ({"rate": "9"}, {"rate": "9", "for": "10s", "max_in_flight": 7}),
        ({"duration": "3s"}, {"rate": 5, "for": "3s", "max_in_flight": 7}),
        ({"iterations": "30"}, {"rate": 5, "iterations": "30", "max_in_flight": 7}),
        ({"users": "4", "iterations": "30"}, {"users": "4", "iterations": "30"}),
        ({"users": "4", "duration": "30"}, {"users": "4", "for": "30"}),
        ({"users": "10:20", "hits": "5:10"}, {"cycles": [
            {"users": users, "iterations": hits} for users in (10, 20) for hits in (5, 10)]}),
        ({"users": "10:20"}, {"cycles": [{"users": 10, "iterations": 1}, {"users": 20, "iterations": 1}]}),
        ({"users": "10:20", "duration": "90s"},
         {"stages": [{"users": 10, "for": "1m30s"}, {"users": 20, "for": "1m30s"}]}),
    ],
)  # fmt: skip
def test_the_command_line_replaces_the_load(tmp_path: Path, changes: dict[str, str], load: dict[str, Any]) -> None:
    loaded = loaded_with(tmp_path, **changes)
    assert loaded.document["steps"][0]["load"] == load
    assert load_plan(loaded.document).steps[0].load == loaded.plan.steps[0].load


def test_replaced_stages_keep_their_length(tmp_path: Path) -> None:
    text = ONE_STEP.replace(
        "{rate: 5, for: 10s, max_in_flight: 7}", "{stages: [{rate: 1, for: 1m}, {rate: 2, for: 1.5s}]}"
    )
    assert loaded_with(tmp_path, text, rate="9").plan.steps[0].load.end_ns == 61_500_000_000
    with pytest.raises(PlanError, match=r"--for: needs --rate or --users: the plan's load has stages"):
        loaded_with(tmp_path, text, duration="3s")


def test_what_the_loads_become(tmp_path: Path) -> None:
    assert isinstance(loaded_with(tmp_path, rate="2").plan.steps[0].load, OpenLoad)
    closed = loaded_with(tmp_path, users="2:3", duration="2s").plan.steps[0].load
    assert isinstance(closed, ClosedLoad)
    assert (closed.max_users, closed.end_ns) == (3, 4 * SECOND)
    counted = loaded_with(tmp_path, users="10:20:30", hits="5:10").plan.steps[0].load
    assert isinstance(counted, IterationsLoad)
    assert counted.planned == (10 + 20 + 30) * (5 + 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": "fast"}, "--rate: not a rate: 'fast'"),
        ({"duration": "5 parsecs"}, "--for: not a duration: '5 parsecs'"),
        ({"users": "many"}, "--users: not a whole number from 1: 'many'"),
        ({"users": "1.5", "duration": "1s"}, "steps[0].load.users: not a whole number: '1.5' (line 2)"),
        ({"iterations": "0"}, "--iterations: not a whole number from 1: '0'"),
        ({"rate": "1", "users": "1"}, "--rate: does not go with --users: one or the other"),
        ({"duration": "1", "iterations": "1"}, "--for: does not go with --iterations: one or the other"),
        ({"users": "1:x"}, "--users: users: whole numbers separated by colons, such as 10:20:30, not '1:x'"),
        ({"workers": 8},
         "steps[0].load.max_in_flight: 7 can't be shared out over 8 workers: raise it, or lower `workers` (line 2)"),
        ({"sets": {}}, "steps[0].http.base_url: nobody defines ${HOST}: set it with --set HOST=... or in env (line 3)"),
    ],
)  # fmt: skip
def test_what_the_command_line_cannot_say(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError) as caught:
        loaded_with(tmp_path, **changes)
    assert [str(problem) for problem in caught.value.problems] == [message]


def test_a_load_is_replaced_in_plans_of_one_step(tmp_path: Path) -> None:
    text = "steps: [{http: {do: [{get: 'http://h/'}]}}, {http: {do: [{get: 'http://h/'}]}}]\n"
    assert problems_of(written(tmp_path, text), None, Overrides(rate="5", duration="1s")) == [
        "--rate, --users, --for and --iterations: replace the load of a plan with one step, and this one has 2"
    ]


DATA = "steps: [{data: {file: FILE}, http: {do: [{get: 'http://h/${row.name}'}]}}]\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.csv", b"", "'d.csv' is empty"),
        ("d.csv", b"name,city\n", "'d.csv' has no rows"),
        ("d.csv", b"name,city\na,b\n\nc\n", "line 4: 1 values, and the header has 2"),
        ("d.csv", b"name,city\na,b,c\n", "line 2: 3 values, and the header has 2"),
        ("d.csv", b"name,name\na,b\n", "line 1: two columns are called 'name'"),
        ("d.csv", b"name,\na,b\n", "line 1: a column without a name"),
        ("d.csv", b'name\n"a\n', "line 2: unexpected end of data"),
        ("d.csv", b"name\na\n\xff\n", "'d.csv' line 1: not UTF-8"),
        ("d.csv", b"name\n" + b"x" * 2_000_000, "'d.csv' line 2: longer than 1048576 characters"),
        ("d.jsonl", b'{"name": 1}\n{"name": \n', "line 2: not JSON: Expecting value: line 2 column 1 (char 10)"),
        ("d.jsonl", b'{"name": 1}\n[1]\n', "line 2: not a JSON object with values in it"),
        ("d.jsonl", b'{"name": 1}\n\n{"nmae": 1}\n', "line 3: not the keys of the first row: name, nmae"),
        ("d.jsonl", b'{"name": NaN}\n', "line 1: not JSON: NaN is not JSON"),
        ("d.jsonl", b"\n\n", "line 1: JSON lines begin with '{'"),
        ("d.csv", b"\nname\nx\n", "line 1: no header: the first line names the columns"),
        ("d.csv", b"name, city\na,b\n", "line 1: a column's name with spaces around it: ' city'"),
        ("d.csv", b'{"name": 1}\nx\n', "line 2: not JSON: Expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_data_files_that_are_wrong(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    path = written(tmp_path, DATA.replace("FILE", name))
    assert problems_of(path) == [f"steps[0].data.file: {message} (line 1)"]


def test_data_files_that_are_missing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path = written(tmp_path, DATA.replace("FILE", "nope.csv"))
    assert problems_of(path) == [
        f"steps[0].data.file: no such file: 'nope.csv' (looked for {tmp_path.resolve()}/nope.csv) (line 1)"
    ]
    assert "not a file: 'folder'" in problems_of(written(tmp_path, DATA.replace("FILE", "folder")))[0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.csv", '\ufeffname,city\nAda,"a\nb"\n\n'),
        ("d.ndjson", '{"name": "Ada", "city": null}\n\n{"city": 1, "name": 2}\n'),
    ],
)
def test_data_files_that_are_right(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    loaded = read(written(tmp_path, DATA.replace("FILE", name)))
    assert loaded.files == {name: str((tmp_path / name).resolve())}
    wrong = DATA.replace("FILE", name).replace("row.name", "row.nmae")
    assert "no such column (did you mean 'name'?)" in problems_of(written(tmp_path, wrong))[0]


def test_ca_files(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    text = "steps: [{http: {tls: {ca: ca.pem}, do: [{get: 'https://h/'}]}}]\n"
    (message,) = problems_of(written(tmp_path, text))
    assert message.startswith("steps[0].http.tls.ca: no certificates in PEM form in 'ca.pem'")


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_are_right(example: Path) -> None:
    assert [loaded.warnings for loaded in read_all(str(example))] == [()]


def test_the_quickstart_is_short() -> None:
    plan = read(str(EXAMPLES / "quickstart.yaml")).plan
    ends = [step.delay_ns + (step.load.end_ns or 0) for step in plan.steps]
    assert len(ends) == 2
    assert max(ends) <= 25 * SECOND
