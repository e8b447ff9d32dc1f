#!/usr/bin/env bash
# Installs what `make bench` runs beside Loads: Debian's nginx, wrk, hey, h2load and node as root; Locust, molotov and
# websocket-client each into a virtual environment of its own in .bench, since what they depend on must not touch ours;
# and node's library ws there, too. What can't be had is no error: why stands in .bench/NAME.reason, and the figures say
# so.
set -u
cd -P "$(dirname "$0")/.." || exit 2
cache=.bench
# command:package
commands="nginx:nginx-light wrk:wrk hey:hey h2load:nghttp2-client openssl:openssl node:nodejs npm:npm"
# name:what to install
environments="locust:locust>=2.30,<3 molotov:molotov>=2.6,<3 websocket-client:websocket-client>=1.8,<2"
node_library=ws@8.18.3

export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
mkdir -p "$cache"
log=$(mktemp)
trap 'rm -f "$log"' EXIT

because() { # name, fallback: the last line of the log that is no warning is the reason
  { grep -Ev '^[[:space:]]*$|WARNING' "$log" | tail -n 1 | cut -c 1-200; } >"$cache/$1.reason"
  [ -s "$cache/$1.reason" ] || echo "$2" >"$cache/$1.reason"
  echo "loads: no $1: $(cat "$cache/$1.reason")" >&2
}

answers() { # name: whether what was installed under that name runs
  case $1 in
    websocket-client) "$cache/$1/bin/python" -c "import websocket" ;;
    *) "$cache/$1/bin/$1" --version ;;
  esac
}

for need in $commands; do
  name=${need%%:*} package=${need##*:}
  rm -f "$cache/$name.reason"
  command -v "$name" >/dev/null && continue
  : >"$log"
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "loads: installing $package" >&2
    scripts/apt.sh "$package" >"$log" 2>&1 && continue
  fi
  because "$name" "install the package $package"
done

for need in $environments; do
  name=${need%%:*} what=${need#*:} folder=$cache/${need%%:*}
  rm -f "$cache/$name.reason"
  if [ "$(cat "$folder/stamp" 2>/dev/null)" = "$PWD $what" ] && answers "$name" >/dev/null 2>&1; then
    continue
  fi
  echo "loads: installing $name into $folder" >&2
  if scripts/environment.sh create "$folder" >"$log" 2>&1 &&
    scripts/environment.sh install "$folder" "$what" >"$log" 2>&1 &&
    answers "$name" >"$log" 2>&1; then
    printf '%s\n' "$PWD $what" >"$folder/stamp"
  else
    because "$name" "it can't be installed"
  fi
done

rm -f "$cache/ws.reason"
if [ "$(cat "$cache/ws/stamp" 2>/dev/null)" != "$node_library" ]; then
  : >"$log"
  echo "loads: installing $node_library into $cache/ws" >&2
  mkdir -p "$cache/ws"
  if command -v npm >/dev/null &&
    npm install --prefix "$cache/ws" --no-save --no-package-lock --no-audit --no-fund --loglevel=error \
      "$node_library" >"$log" 2>&1; then
    printf '%s\n' "$node_library" >"$cache/ws/stamp"
  else
    because ws "it can't be installed without npm"
  fi
fi
