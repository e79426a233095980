#!/usr/bin/env bash
# Makes this checkout ready to run: system packages, a virtual environment in .venv, the pinned dependencies, fusestore itself.
# Says what is missing and why before it installs anything; quick when nothing is missing.
#
#   scripts/setup.sh            what running needs
#   scripts/setup.sh tests      and the tools that the mounted tests put to work
#   scripts/setup.sh bench      and the file systems that the bench compares with, and what draws its picture
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }
stop() { printf 'setup: %s\n' "$@" >&2; exit 1; }

# --- Python -------------------------------------------------------------------------------------------------------------

python_for_us() { # the first interpreter that is new enough; a name on PATH may be a shim that leads nowhere, so each is asked
    local name
    for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$name" -c 'import sys; print(sys.executable)'
            return
        fi
    done
}

# --- system packages ----------------------------------------------------------------------------------------------------

missing=()
need() { # need PACKAGE REASON COMMAND...: the package is missing when the command fails
    local package=$1 reason=$2
    shift 2
    "$@" >/dev/null 2>&1 && return
    say "missing: $package ($reason)"
    missing+=("$package")
}
has() { command -v "$1"; }
has_sbin() { PATH=$PATH:/usr/sbin:/sbin command -v "$1"; }
has_headers() { "$1" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'; }
has_module() { "$1" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)' "$2"; }

install_missing() {
    ((${#missing[@]})) || return 0
    local command=(apt-get install --yes --no-install-recommends "${missing[@]}")
    command -v apt-get >/dev/null || stop "this is no Debian: install what the packages above hold with your own package manager, then run this again"
    local as_root=(env)
    if ((EUID != 0)); then
        # -n first: where a password is needed and nobody can type it, say the command instead of waiting.
        if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then
            as_root=(sudo env)
        else
            stop "only root can install them; ask for" "    sudo apt-get update && sudo ${command[*]}" "then run this again"
        fi
    fi
    say "${command[*]}"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" DEBIAN_FRONTEND=noninteractive "${command[@]}" -qq >/dev/null
    missing=()
}

python=$(python_for_us)
if [[ -z $python ]]; then
    need python3 "fusestore needs Python 3.11 or later" false
    install_missing
    python=$(python_for_us)
    [[ -n $python ]] || stop "no Python 3.11 or later here, and this system's package of python3 is older." \
        "install one (for example python3.12), or name it: make setup PYTHON=/path/to/python3"
fi
# A distribution's own interpreter keeps its headers and venv in packages of its version; others bring theirs along.
version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')

need fuse3 "fusermount3, which mounts and unmounts" has fusermount3
need libfuse3-dev "pyfuse3 is compiled against it" pkg-config --exists fuse3
need pkg-config "tells the compiler where libfuse3 is" has pkg-config
need gcc "compiles pyfuse3, which has no ready-made packages" has gcc
need libc6-dev "the C library's headers, for gcc" test -e /usr/include/stdlib.h
need "$version-dev" "Python.h, for the same" has_headers "$python"
need "$version-venv" "makes .venv" "$python" -c 'import ensurepip, venv'
if [[ ${1-} == tests || ${1-} == bench ]]; then
    need attr "getfattr and setfattr" has getfattr
    need e2fsprogs "mkfs.ext4, for a second disk" has_sbin mkfs.ext4
    need git "clones inside the mount" has git
    need mount "loop devices as disks" has_sbin losetup
    need rsync "copies into the mount" has rsync
    need sqlite3 "writes a database in the mount" has sqlite3
    need tar "packs and unpacks in the mount" has tar
    need util-linux "setpriv and flock" has setpriv
    need xfsprogs "mkfs.xfs, for a third disk" has_sbin mkfs.xfs
fi
if [[ ${1-} == tests ]]; then
    need dbench "does the work of an office in the mount" has dbench
    need fio "writes and verifies in the mount" has fio
    need "lib$version-testsuite" "Python's own tests of files" has_module "$python" test.test_os
    need netcat-openbsd "nc -U, a client of the control socket" has nc
    need socat "another one" has socat
    need stress-ng "calls everything in the mount" has stress-ng
fi
if [[ ${1-} == bench ]]; then
    need bindfs "a pass-through in C" has bindfs
    need inotify-tools "inotifywait, which tells of changes natively" has inotifywait
    need mergerfs "a union of disks in C++" has mergerfs
fi
install_missing

if [[ ! -e /dev/fuse ]]; then
    say "WARNING: /dev/fuse is missing: everything can be installed, nothing can be mounted."
    say "         as root: modprobe fuse. In a container: start it with --device /dev/fuse --cap-add SYS_ADMIN"
elif [[ ! -r /dev/fuse || ! -w /dev/fuse ]]; then
    say "WARNING: $(id -un) may not open /dev/fuse: mounting will fail. As root: chmod 0666 /dev/fuse"
fi

# --- virtual environment ------------------------------------------------------------------------------------------------

bring() { # bring STAMP INPUTS COMMAND...: run the command unless it has run with these files and this interpreter
    local stamp=.venv/$1 wanted
    wanted=$("$python" -c 'import sys; print(sys.version)' | cat - $2 scripts/setup.sh | sha256sum; pwd)
    [[ -f $stamp && $(<"$stamp") == "$wanted" ]] && return
    "${@:3}"
    printf '%s\n' "$wanted" >"$stamp"
}
pip() { .venv/bin/pip install -qq --disable-pip-version-check "$@"; }

make_venv() {
    say "making .venv with $version"
    "$python" -m venv --clear .venv
    say "installing the pinned dependencies (pyfuse3 is compiled, which takes a minute)"
    pip --require-hashes -r requirements.lock
    pip --no-deps --no-build-isolation --editable .
    say "ready: .venv/bin/fusestore"
}
add_bench() {
    say "installing what draws the bench's picture"
    pip --require-hashes -r bench/requirements.lock
}

bring fusestore-setup "requirements.lock pyproject.toml" make_venv
if [[ ${1-} == bench ]]; then
    bring fusestore-setup-bench "bench/requirements.lock requirements.lock pyproject.toml" add_bench
fi
