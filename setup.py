"""Maps the repository's folders to import names that can't collide on a user's machine.

``scheduler/`` is imported as ``loads.scheduler``, ``workers/`` as ``loads.workers``; ``loads`` itself is a
PEP 420 namespace and has no folder. ``loads_queue/`` keeps its name. Everything else stands in pyproject.toml.
"""

from setuptools import find_packages, setup

FOLDERS = {"loads.scheduler": "scheduler", "loads.workers": "workers", "loads.deploy": "deploy"}


def packages() -> list[str]:
    """Every importable package, by its import name."""
    found = [name for name in find_packages(".") if name.split(".")[0] == "loads_queue"]
    for name, folder in FOLDERS.items():
        found.append(name)
        found.extend(f"{name}.{inner}" for inner in find_packages(folder))
    return sorted(found)


setup(packages=packages(), package_dir={"": ".", **FOLDERS})
