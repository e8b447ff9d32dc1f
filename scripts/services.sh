#!/usr/bin/env bash
# Sees to the real servers and tools that tests use. Root on Debian gets the missing ones installed; elsewhere they are
# named and the tests that need them skip. With CI=true a missing one is an error.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# command:package
needs="redis-server:redis-server rabbitmq-server:rabbitmq-server postgres:postgresql"

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
