#!/usr/bin/env bash
# Installs Debian packages as root without letting a daemon in them start by itself: scripts/apt.sh PACKAGE...
# Package lists are fetched only where they are missing or do not know a package.
set -eu
policy=/usr/sbin/policy-rc.d

made_policy=
log=$(mktemp)
clean() {
  rm -f "$log"
  [ -z "$made_policy" ] || rm -f "$policy"
}
trap clean EXIT

if [ ! -e "$policy" ]; then
  made_policy=yes
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi

known() { # every package has a candidate to install
  for package in "$@"; do
    apt-cache policy "$package" 2>/dev/null | grep -q 'Candidate: [^(]' || return 1
  done
}

quietly() { # shows what a command printed only where it fails
  "$@" </dev/null >"$log" 2>&1 || {
    cat "$log" >&2
    return 1
  }
}

install() { DEBIAN_FRONTEND=noninteractive quietly apt-get install -y -qq --no-install-recommends "$@"; }

known "$@" || quietly apt-get update -qq
# Lists may be older than the mirror: once more with fresh ones.
install "$@" || { quietly apt-get update -qq && install "$@"; }
