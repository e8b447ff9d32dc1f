#!/usr/bin/env bash
# Builds the compiled core for AddressSanitizer, apart from the one in use, holds its parser against the pure one over
# many examples and the core by itself against a target, an agent and a load with dice, and then runs whole engines with
# it: scripts/fuzz-core.sh [PYTEST ARGUMENTS]. Every byte read or written beyond its buffer, or after it was given back,
# ends it.
set -eu
cd -P "$(dirname "$0")/.."
out=$PWD/build/asan
library=$(gcc -print-file-name=libasan.so)
if [ ! -e "$library" ]; then
  echo "loads: gcc's libasan is missing (Debian: apt-get install gcc)" >&2
  exit 2
fi
# Greenlets copy stacks about, marks of the sanitizer's and all, so the heap alone is watched.
CFLAGS="-fsanitize=address --param asan-stack=0 -fno-omit-frame-pointer -g -O1" .venv/bin/python setup.py -q build_ext --force \
  --build-lib "$out" --build-temp "$out/temp" >"$out.log" 2>&1 || {
  cat "$out.log" >&2
  exit 1
}
core=$(find "$out" -name "_core.*.so")
# Greenlets throw, which the sanitizer has to find libstdc++ for.
runtime=$(gcc -print-file-name=libstdc++.so.6)
export LD_PRELOAD="$library $runtime" ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 PYTHONMALLOC=malloc LOADS_CORE=$core
HYPOTHESIS_PROFILE=${HYPOTHESIS_PROFILE:-thorough} \
  .venv/bin/python -m pytest -q -p no:cacheprovider tests/compiled "$@" || [ $? = 5 ]

# Engines are processes of their own, which find the core by its name: there it is this one.
mkdir -p "$out/site"
cat >"$out/site/sitecustomize.py" <<'PYTHON'
import importlib.util
import os
import sys


class Finder:
    def find_spec(name, path=None, target=None):
        if name == "loads.workers.engines._core":
            return importlib.util.spec_from_file_location(name, os.environ["LOADS_CORE"])


sys.meta_path.insert(0, Finder)
PYTHON
# Left out is what has an eye on the clock or on memory, of both of which the sanitizer needs plenty.
tests=tests/engine/test_engine
PYTHONPATH=$out/site LOADS_ENGINE_PATH=compiled .venv/bin/python -m pytest -q -p no:cacheprovider \
  ${tests}_{core_hostile,core_phases,hostile,contract,steering}.py \
  --deselect ${tests}_hostile.py::test_every_trick_is_a_failed_request_with_a_name \
  --deselect "${tests}_contract.py::TestEnd::test_garbage_from_the_agent_ends_it_too" "$@" || [ $? = 5 ]
