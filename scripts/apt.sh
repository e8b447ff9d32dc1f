#!/usr/bin/env bash
# Installs Debian packages as root without letting a daemon in them start by itself: scripts/apt.sh PACKAGE...
# Package lists are fetched only where they are missing or do not know a package.
set -eu
policy=/usr/sbin/policy-rc.d

if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi

known() { # every package has a candidate to install
  for package in "$@"; do
    apt-cache policy "$package" 2>/dev/null | grep -q 'Candidate: [^(]' || return 1
  done
}

install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null; }

known "$@" || apt-get update -qq
# Lists may be older than the mirror: once more with fresh ones.
install "$@" || { apt-get update -qq && install "$@"; }
