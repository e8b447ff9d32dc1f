"""Which files a test needs: its own, those around it, those that are asked for, and never one from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from loads_queue import bundle
from loads_queue.bundle import BundleError, pack, unpack
from loads_queue.bundle_files import collect, locate, read_requirements, requirements_file
from tests.bundle.archives import read

TREE = {
    "conftest.py": "",
    "setup.cfg": "[metadata]\nname = shop\n",
    "pyproject.toml": "[project]\nname = 'shop'\n[tool.pytest.ini_options]\nmarkers = ['slow']\n",
    "requirements.txt": "not beside a test\n",
    "shop/__init__.py": "",
    "shop/views.py": "",
    "shop/tests/__init__.py": "",
    "shop/tests/conftest.py": "",
    "shop/tests/test_views.py": "",
    "plain/conftest.py": "",
    "plain/deep/__init__.py": "",
    "plain/deep/test_it.py": "",
    "far/__init__.py": "",
    "far/gap/test_gap.py": "",
    "plain/deep/test_more.py": "",
    "plain/deep/.hidden/test_no.py": "",
    "plain/deep/requirements.txt": "-r ../../common/base.txt  # the usual\nhttpx==1\n",
    "common/base.txt": "\ufeffflask==3.0.0\n--requirement=more.txt\n",
    "common/more.txt": "jinja2==3.1.0\n",
    "data/a.json": "{}",
    "data/b.csv": "",
    "data/.env": "PASSWORD=x",
    "data/deep/c.json": "{}",
    "data/deep/__pycache__/c.json": "",
    "data/.cache/d.json": "",
    ".git/config.json": "",
    ".venv/lib/e.json": "",
    "my-env/pyvenv.cfg": "",
    "my-env/f.json": "",
    "loads-results/g.json": "",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "root"
    for name, text in TREE.items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(text)
    (tmp_path / "secret.json").write_text("")
    return base


def test_a_test_in_a_package_has_its_package_and_what_pytest_wants(root: Path) -> None:
    assert collect(root, "shop/tests/test_views.py::TestCart::test_buy") == [
        "conftest.py", "pyproject.toml", "shop/__init__.py", "shop/tests/__init__.py", "shop/tests/conftest.py",
        "shop/tests/test_views.py",
    ]  # fmt: skip


def test_packages_end_where_a_folder_is_none_and_requirements_stand_beside(root: Path) -> None:
    expected = [
        "common/base.txt", "common/more.txt", "conftest.py", "plain/conftest.py", "plain/deep/__init__.py",
        "plain/deep/requirements.txt", "plain/deep/test_it.py", "pyproject.toml",
    ]  # fmt: skip
    assert collect(root, "./plain/deep/test_it.py") == expected
    assert not any("__init__" in name for name in collect(root, "far/gap/test_gap.py"))
    with_more = sorted([*expected, "plain/deep/test_more.py"])
    assert collect(root, "plain/deep") == with_more
    without = [name for name in expected if not name.endswith(".txt")]
    assert collect(root, "plain/deep/test_it.py", requirements="") == without
    assert collect(root, "plain/deep/test_it.py", requirements="requirements.txt") == sorted(
        [*without, "requirements.txt"]
    )


@pytest.mark.parametrize(
    ("test", "name"),
    [
        ("shop.tests.test_views", "shop/tests/test_views.py"),
        ("shop.tests.test_views.TestCart.test_buy", "shop/tests/test_views.py"),
        ("shop.Nothing", "shop/__init__.py"),
        ("shop/tests/../views.py", "shop/views.py"),
        ("conftest.py::x[a::b]", "conftest.py"),
        ("plain", "plain"),
    ],
)
def test_a_test_is_found_by_path_or_dotted_name(root: Path, test: str, name: str) -> None:
    assert locate(root, test) == name


@pytest.mark.parametrize("test", ["", "::x", "nothing.py", "no.such.thing", "shop-x", "a\0b", "shop.", "é\n"])
def test_a_test_that_is_not_there_is_said(root: Path, test: str) -> None:
    with pytest.raises(BundleError, match=r"there is no test .* below .*root: give PATH::NAME or MODULE\.NAME"):
        locate(root, test)


@pytest.mark.parametrize(
    ("include", "names"),
    [
        (["data/*.json"], ["data/a.json"]),
        (["data/**/*.json"], ["data/a.json", "data/deep/c.json"]),
        (["**/*.json"], ["data/a.json", "data/deep/c.json"]),
        (["**/**/c.json", "data/./deep//c.json"], ["data/deep/c.json"]),
        (["data"], ["data/a.json", "data/b.csv", "data/deep/c.json"]),
        (["data/"], ["data/a.json", "data/b.csv", "data/deep/c.json"]),
        (["data/**"], ["data/a.json", "data/b.csv", "data/deep/c.json"]),
        (["data/*"], ["data/a.json", "data/b.csv"]),
        (["data/?.[cj]s*", "data/b.csv"], ["data/a.json", "data/b.csv"]),
        (["*/a.json"], ["data/a.json"]),
        (["data/.env"], ["data/.env"]),
        (["data/.c*/*"], ["data/.cache/d.json"]),
    ],
)
def test_what_is_included(root: Path, include: Sequence[str], names: Sequence[str]) -> None:
    own = set(collect(root, "shop/views.py"))
    assert sorted(set(collect(root, "shop/views.py", include)) - own) == names


@pytest.mark.parametrize(
    "pattern",
    [
        "data/*.jsn", ".git/*", ".git", ".venv/**", "my-env/*", "my-env", "loads-results/g.json",
        "data/deep/__pycache__/*", "data/a.json/x",
    ],
)  # fmt: skip
def test_a_pattern_that_matches_nothing_is_a_mistake(root: Path, pattern: str) -> None:
    with pytest.raises(BundleError, match=r"the bundle of 'shop/views.py': include .* matches no file below .*root"):
        collect(root, "shop/views.py", [pattern])


@pytest.mark.parametrize("pattern", ["/etc/*", "../*", "data/../../*", "data/.."])
def test_a_pattern_does_not_lead_out(root: Path, pattern: str) -> None:
    with pytest.raises(BundleError, match=r"include .* leads out of .*root: give a pattern relative to it"):
        collect(root, "shop/views.py", [pattern])


def test_a_link_inside_is_followed_but_not_by_two_stars(root: Path) -> None:
    (root / "data/link.json").symlink_to("../common/base.txt")
    (root / "data/round").symlink_to("..")
    found = collect(root, "shop/views.py", ["data"])
    assert "data/link.json" in found
    assert not any("round" in name for name in found)
    assert "data/round/data/a.json" in collect(root, "shop/views.py", ["data/round/data/*.json"])
    (root / "archive").write_bytes(pack(root, found))
    unpack(root / "archive", root / "to")
    assert sorted(read(root / "to")) == found


@pytest.mark.parametrize("pattern", ["data/*.json", "data", "data/out.json", "out/*", "out"])
def test_a_link_that_leads_out_is_refused(root: Path, pattern: str) -> None:
    (root / "data/out.json").symlink_to(root.parent / "secret.json")
    (root / "out").symlink_to(root.parent)
    with pytest.raises(BundleError, match=r"'(data/out.json|out)' leads out of .*root: copy the file"):
        collect(root, "shop/views.py", [pattern])


def test_neither_does_the_test_nor_what_is_around_it(root: Path) -> None:
    (root / "test_out.py").symlink_to(root.parent / "secret.json")
    with pytest.raises(BundleError, match=r"'test_out.py' leads out"):
        collect(root, "test_out.py")
    (root / "plain/conftest.py").unlink()
    (root / "plain/conftest.py").symlink_to(root.parent / "secret.json")
    with pytest.raises(BundleError, match=r"'plain/conftest.py' leads out"):
        collect(root, "plain/deep/test_it.py")
    for test in ("../secret.json", str(root.parent / "secret.json")):
        with pytest.raises(BundleError, match="give the test's path below"):
            collect(root, test)
    with pytest.raises(BundleError, match="nothing gets into a bundle"):
        collect(root, ".venv/lib/e.json")


def test_a_broken_link_is_said(root: Path) -> None:
    (root / "data/gone.json").symlink_to("nowhere.json")
    with pytest.raises(BundleError, match=r"No such file .*gone.json|No such file .*nowhere.json"):
        collect(root, "shop/views.py", ["data/*.json"])


def test_pipes_are_passed_over(root: Path) -> None:
    os.mkfifo(root / "data/pipe.json")
    assert "data/pipe.json" not in collect(root, "shop/views.py", ["data/*.json"])


def test_pytests_settings_are_the_nearest_in_its_order(root: Path) -> None:
    (root / "shop/tests/tox.ini").write_text("[tox]\n")
    assert "pyproject.toml" in collect(root, "shop/tests/test_views.py")
    (root / "shop/tests/tox.ini").write_text("[pytest]\n")
    (root / "shop/tests/setup.cfg").write_text("[tool:pytest]\n")
    found = collect(root, "shop/tests/test_views.py")
    assert [name for name in found if not name.endswith(".py")] == ["shop/tests/tox.ini"]
    (root / "shop/tests/pytest.ini").write_text("")
    assert "shop/tests/pytest.ini" in collect(root, "shop/tests/test_views.py")


def test_requirements_are_read_as_one_text(root: Path) -> None:
    assert requirements_file(root, "plain/deep/test_it.py") == "plain/deep/requirements.txt"
    assert requirements_file(root, "plain/deep") == "plain/deep/requirements.txt"
    assert requirements_file(root, "shop.tests.test_views") is None
    assert requirements_file(root, "anything", "common/more.txt") == "common/more.txt"
    assert read_requirements(root, "plain/deep/requirements.txt") == "flask==3.0.0\njinja2==3.1.0\nhttpx==1\n"


def test_requirements_that_can_not_be_read_are_said(root: Path) -> None:
    (root / "round.txt").write_text("-r round.txt\n")
    (root / "far.txt").write_text("-r https://example.org/requirements.txt\n")
    (root / "out.txt").write_text("-r ../secret.json\n")
    (root / "latin.txt").write_bytes(b"# \xe4\n")
    (root / "link.txt").symlink_to(root.parent / "secret.json")
    for name, reason in {
        "round.txt": "'round.txt' is named by itself, or through too many others",
        "far.txt": "'far.txt' names 'https://example.org/requirements.txt': copy that file here",
        "out.txt": "requirements file '../secret.json' leads out of the folder",
        "latin.txt": "'latin.txt' can't be read",
        "link.txt": "'link.txt' leads out of",
        "none.txt": "there is no requirements file 'none.txt' below",
        "data": "there is no requirements file 'data' below",
    }.items():
        with pytest.raises(BundleError, match=reason):
            read_requirements(root, name)
        with pytest.raises(BundleError, match=reason):
            collect(root, "shop/views.py", requirements=name)


def test_too_much_is_said_when_it_is_collected(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MOST_BYTES", 100)
    (root / "data/b.csv").write_text("x" * 101)
    with pytest.raises(BundleError, match=r"the bundle of 'shop/views.py': .* is too much: a bundle has at most"):
        collect(root, "shop/views.py", ["data"])
