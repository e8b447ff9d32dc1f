#!/usr/bin/env bash
# Prints the path of a Python 3.11 or newer. A name that is on the PATH proves nothing (a version manager's shim may
# point nowhere), so each one is run. Where two qualify, one that can make virtual environments wins. PYTHON=... comes
# before all others. Exits 2, with what to do, where there is none.
set -eu

qualifies() { # interpreter, further modules it must have
  "$1" -c "import sys${2:+, $2}; sys.version_info >= (3, 11) or sys.exit(1); print(sys.executable)" 2>/dev/null
}

names="${PYTHON:-} python3 python3.11 python3.12 python3.13 python3.14 /usr/bin/python3 /usr/local/bin/python3 python"
for modules in "venv, ensurepip" ""; do
  for name in $names; do
    if path=$(qualifies "$name" "$modules") && [ -n "$path" ]; then
      printf '%s\n' "$path"
      exit 0
    fi
  done
done
echo "loads: no Python 3.11 or newer found: install one (Debian: apt-get install python3), or name it with PYTHON=..." >&2
exit 2
