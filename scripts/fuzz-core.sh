#!/usr/bin/env bash
# Builds the compiled core for AddressSanitizer, apart from the one in use, and holds its parser against the pure one
# over many examples: scripts/fuzz-core.sh [PYTEST ARGUMENTS]. Every byte read or written beyond its buffer ends it.
set -eu
cd -P "$(dirname "$0")/.."
out=$PWD/build/asan
library=$(gcc -print-file-name=libasan.so)
if [ ! -e "$library" ]; then
  echo "loads: gcc's libasan is missing (Debian: apt-get install gcc)" >&2
  exit 2
fi
CFLAGS="-fsanitize=address -fno-omit-frame-pointer -g -O1" .venv/bin/python setup.py -q build_ext --force \
  --build-lib "$out" --build-temp "$out/temp" >"$out.log" 2>&1 || {
  cat "$out.log" >&2
  exit 1
}
core=$(find "$out" -name "_core.*.so")
HYPOTHESIS_PROFILE=${HYPOTHESIS_PROFILE:-thorough} LOADS_CORE=$core LD_PRELOAD=$library \
  ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 PYTHONMALLOC=malloc \
  .venv/bin/python -m pytest -q -p no:cacheprovider tests/compiled "$@"
