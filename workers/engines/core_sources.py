"""Whether the compiled core is there, and was built from the sources beside it; ``setup.py`` asks here, too.

A core that is older than the Python around it calls what is no longer there. Nothing but the standard library is
imported, and the core itself only by ``lack``.
"""

from __future__ import annotations

import hashlib
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent


def digest(folder: Path = HERE) -> str | None:
    """SHA-256 (hexadecimal) of the core's sources in a folder; None where it has none, as an installed wheel's."""
    sources = sorted([*folder.glob("_core*.pyx"), *folder.glob("_core*.pxi")])
    if not sources:
        return None
    found = hashlib.sha256()
    for source in sources:
        text = source.read_bytes()
        found.update(f"{source.name} {len(text)}\n".encode() + text)
    return found.hexdigest()


def lack() -> str | None:
    """Why there is no core to use; None where there is one."""
    try:
        core = import_module("._core", __package__)
    except ImportError as error:
        return f"was not built ({error})"
    present = digest()
    if present is not None and getattr(core, "SOURCES", None) != present:
        return "was built from other sources than those that are here now (`make environment` builds it anew)"
    return None
