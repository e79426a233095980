#!/usr/bin/env bash
# Writes requirements.lock anew: every dependency pinned with the hashes of its files, valid for all supported Pythons;
# and bench/requirements.lock, with what only the bench's picture needs.
# Uses a throwaway environment and the package index that pip is set up with.
set -euo pipefail
cd "$(dirname "$0")/.."

tool=$(mktemp -d)
trap 'rm -rf "$tool"' EXIT
"${PYTHON:-python3}" -m venv "$tool"
"$tool/bin/pip" install --quiet uv
lock() { # lock FILE HEADLINE ARGUMENT...: what these arguments of uv ask for
    "$tool/bin/uv" pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --upgrade \
        --no-emit-index-url --no-annotate --no-header --quiet --output-file "$tool/lock" "${@:3}"
    {
        echo "# $2; for Python 3.11 and later. Renew with: make lock"
        cat "$tool/lock"
    } >"$1"
    rm "$tool/lock"
    echo "$1: $(grep -c == "$1") packages"
}
lock requirements.lock "Everything that fusestore and its tests install, pinned" --extra dev
# The same versions of what both have, and then only what the other does not.
sed -n 's/^\([^ #]*\)==.*/\1/p' requirements.lock >"$tool/known"
mapfile -t known <"$tool/known"
lock bench/requirements.lock "What draws the picture of a bench run, beside requirements.lock, pinned" \
    --extra bench --constraint requirements.lock "${known[@]/#/--no-emit-package=}"
