#!/usr/bin/env bash
# Installs the Debian packages that the tests need, and those that are named: infra/debian.sh buildah …
# A program that is there already is left alone, whatever brought it: GitHub's Ubuntu machines have
# most of them from elsewhere.
set -euo pipefail
missing=()
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
command -v chromium >/dev/null || missing+=(chromium)
command -v chromedriver >/dev/null || missing+=(chromium-driver)
command -v bwrap >/dev/null || missing+=(bubblewrap)
for program in "$@"; do
  command -v "$program" >/dev/null || missing+=("$program")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if ! command -v apt-get >/dev/null; then
  echo "The tests need ${missing[*]} and this is no Debian. Install them as this system does it." >&2
  exit 1
fi
if [ "$(id --user)" != 0 ]; then
  echo "The tests need ${missing[*]}. Run: sudo apt-get install --yes --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Debian would start a server of its own: the tests start theirs on a free port.
mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] || echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update && apt-get install --yes --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  echo "apt-get could not install ${missing[*]}: $(grep '^E:' "$log" | head -1 || tail -1 "$log")" >&2
  exit 1
fi
