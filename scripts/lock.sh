#!/usr/bin/env bash
# Writes requirements.lock anew: every dependency pinned with the hashes of its files, valid for all supported Pythons.
# Uses a throwaway environment and the package index that pip is set up with.
set -euo pipefail
cd "$(dirname "$0")/.."

tool=$(mktemp -d)
trap 'rm -rf "$tool"' EXIT
"${PYTHON:-python3}" -m venv "$tool"
"$tool/bin/pip" install --quiet uv
"$tool/bin/uv" pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --upgrade \
    --no-emit-index-url --no-annotate --no-header --quiet --output-file "$tool/lock"
{
    echo "# Everything that fusestore and its tests install, pinned; for Python 3.11 and later. Renew with: make lock"
    cat "$tool/lock"
} >requirements.lock
echo "requirements.lock: $(grep -c == requirements.lock) packages"
