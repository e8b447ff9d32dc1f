#!/usr/bin/env bash
# Sees to the real servers and tools that tests use. Root on Debian gets the missing ones installed; elsewhere they are
# named and the tests that need them skip. With CI=true a missing one is an error.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# command:package
needs="redis-server:redis-server rabbitmq-server:rabbitmq-server postgres:postgresql node:nodejs npm:npm"
# A WebSocket server of the npm registry, in a folder of the virtual environment.
node_library=ws@8.18.3

missing() {
  for need in $needs; do
    command -v "${need%%:*}" >/dev/null || printf '%s ' "${need##*:}"
  done
}

# Daemons live in sbin, which is not on everyone's PATH; Debian's PostgreSQL in a folder of its version.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
for folder in /usr/lib/postgresql/*/bin; do
  PATH="$PATH:$folder"
done
lacking=$(missing)
if [ -n "$lacking" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "loads: installing for the tests: $lacking" >&2
  # Several words, on purpose.
  # shellcheck disable=SC2086
  "$here/apt.sh" $lacking >&2 || echo "loads: apt-get could not install them" >&2
  lacking=$(missing)
fi
if [ -n "$lacking" ]; then
  echo "loads: missing: $lacking" >&2
  if [ "${CI:-}" = true ]; then
    echo "loads: with CI=true every test must run: install them" >&2
    exit 1
  fi
  echo "loads: the tests that need them will be skipped; to run them: apt-get install $lacking" >&2
fi
library=$here/../.venv/node
if command -v npm >/dev/null && [ -d "$here/../.venv" ] && [ ! -e "$library/$node_library" ]; then
  echo "loads: installing $node_library for the tests" >&2
  mkdir -p "$library"
  if npm install --prefix "$library" --no-save --no-package-lock --no-audit --no-fund --loglevel=error "$node_library" >&2; then
    : >"$library/$node_library"
  elif [ "${CI:-}" = true ]; then
    echo "loads: with CI=true every test must run, and npm could not install $node_library" >&2
    exit 1
  else
    echo "loads: npm could not install $node_library: the tests that need it will be skipped" >&2
  fi
fi
