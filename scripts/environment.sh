#!/usr/bin/env bash
# Makes a virtual environment and installs into it: with uv where that runs, else with pip.
#
#   scripts/environment.sh create DIR        makes DIR anew
#   scripts/environment.sh install DIR ...   hands the rest (what to install) to uv or pip
#
# Where Python's own venv lacks ensurepip (Debian packs it apart), root gets it installed; others are told how; exit 2.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

has_uv() { [ -z "${LOADS_NO_UV:-}" ] && uv --version >/dev/null 2>&1; }

need_ensurepip() { # interpreter
  "$1" -c "import ensurepip, venv" 2>/dev/null && return 0
  command="apt-get install -y python3-venv"
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "loads: $1 can't make virtual environments: $command" >&2
    "$here/apt.sh" python3-venv >&2
    "$1" -c "import ensurepip, venv" 2>/dev/null && return 0
  fi
  echo "loads: $1 can't make virtual environments (it has no ensurepip). Run this as root, then try again:" >&2
  echo "    $command" >&2
  exit 2
}

action=$1
folder=$2
shift 2
case $action in
  create)
    python=$("$here/python.sh")
    rm -rf "$folder"
    if has_uv; then
      uv venv --quiet --no-project --python "$python" "$folder"
    else
      need_ensurepip "$python"
      "$python" -m venv "$folder"
    fi
    ;;
  install)
    if has_uv; then
      uv pip install --quiet --compile-bytecode --python "$folder/bin/python" "$@"
    else
      "$folder/bin/python" -c "import pip" 2>/dev/null || "$folder/bin/python" -m ensurepip >/dev/null
      "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    fi
    ;;
  *)
    echo "usage: $0 create|install DIR [WHAT...]" >&2
    exit 2
    ;;
esac
