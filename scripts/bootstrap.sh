#!/usr/bin/env bash
# Brings .venv up to date: `scripts/bootstrap.sh` with what the product needs, `scripts/bootstrap.sh dev` with what
# its tests need too. Quick where nothing changed: a stamp holds what was installed from, and where.
set -eu
cd -P "$(dirname "$0")/.."
extra=${1:-run}

core=workers/engines
state=$({ pwd; cat setup.py pyproject.toml scripts/bootstrap.sh scripts/environment.sh "$core"/_core*.p[yx][xi]; } | cksum)
runs() { .venv/bin/python -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; }
stamped() { [ -f ".venv/stamp-$1" ] && [ "$(cat ".venv/stamp-$1")" = "$state" ]; }

if runs && { stamped "$extra" || stamped dev; }; then
  exit 0
fi
# An environment that was made elsewhere holds scripts that point elsewhere.
if ! runs || ! grep -qsF "$PWD/" .venv/bin/activate; then
  echo "loads: making the virtual environment .venv" >&2
  scripts/environment.sh create .venv
fi
# A core that was built from other sources must not outlive them.
rm -f .venv/stamp-* "$core"/_core.*.so
echo "loads: installing into .venv" >&2
if [ "$extra" = dev ]; then
  scripts/environment.sh install .venv --editable ".[dev]"
else
  scripts/environment.sh install .venv --editable .
fi
if ! .venv/bin/python -c "import loads.workers.engines._core" 2>/dev/null; then
  echo "loads: the compiled core of the HTTP engine was not built; all else works, at more processor time a request." >&2
  echo "loads: it needs a C compiler and Python's headers (Debian: apt-get install gcc python3-dev), then make clean" >&2
fi
printf '%s\n' "$state" >".venv/stamp-$extra"
