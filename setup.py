"""Maps the repository's folders to import names that can't collide on a user's machine, and builds the compiled core.

``scheduler/`` is imported as ``loads.scheduler``, ``workers/`` as ``loads.workers``; ``loads`` itself is a
PEP 420 namespace and has no folder. ``loads_queue/`` keeps its name. Everything else stands in pyproject.toml.

The core is optional: without Cython, a C compiler, Python's headers or Linux, everything else is installed, and the
engine takes its paths in Python. ``LOADS_NO_CORE=1`` leaves it out on purpose.
"""

import os
import runpy
import sys
import warnings

from setuptools import Extension, find_packages, setup

FOLDERS = {"loads.scheduler": "scheduler", "loads.workers": "workers", "loads.deploy": "deploy"}


def packages() -> list[str]:
    """Every importable package, by its import name."""
    found = [name for name in find_packages(".") if name.split(".")[0] == "loads_queue"]
    for name, folder in FOLDERS.items():
        found.append(name)
        found.extend(f"{name}.{inner}" for inner in find_packages(folder))
    return sorted(found)


def extensions() -> list[Extension]:
    """The compiled core, where it can be tried; a build that fails is left out with a warning."""
    if os.environ.get("LOADS_NO_CORE") or not sys.platform.startswith("linux"):
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        warnings.warn("without Cython the compiled core of the HTTP engine is left out", stacklevel=1)
        return []
    digest = runpy.run_path("workers/engines/core_sources.py")["digest"]()
    macros = [("LOADS_CORE_SOURCES", f'"{digest}"')]
    core = Extension("loads.workers.engines._core", ["workers/engines/_core.pyx"], define_macros=macros)
    found: list[Extension] = cythonize([core], build_dir="build", quiet=True)
    for extension in found:
        extension.optional = True  # Said of what goes into cythonize, it would be lost.
    return found


setup(packages=packages(), package_dir={"": ".", **FOLDERS}, ext_modules=extensions())
