"""An ordinary user can make, mount and use a store of his own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.daemon import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(120)
NOBODY: Final = 65534

SESSION: Final = """
set -eux
fusestore() { "$PYTHON" -c 'import sys; from fusestore.cli.main import main; sys.exit(main())' "$@"; }
cd "$BASE"
mkdir mnt
fusestore init store
fusestore root add store disk ./disk
fusestore mount store mnt
echo upload > mnt/uploads/f
mkdir mnt/resources/disk/d
mv mnt/uploads/f mnt/resources/disk/d/g
fusestore wait --all --socket store/control.sock
grep -q upload disk/d/g
chmod 640 mnt/resources/disk/d/g
cp -a mnt/resources/disk/d mnt/uploads/copy
test "$(stat -c %U:%a mnt/uploads/copy/g)" = "$(id -un):640"
if chown 0 mnt/uploads/copy/g 2>/dev/null; then echo "gave a file away"; exit 9; fi
if mknod mnt/uploads/device c 1 3 2>/dev/null; then echo "made a device"; exit 9; fi
ln -s d mnt/resources/disk/l
mkfifo mnt/resources/disk/p
fusestore status --socket store/control.sock > /dev/null
tail -n 0 -f mnt/.fusestore/events > told &
sleep 2
echo outside > disk/d/new
for _ in $(seq 50); do grep -q resources/disk/d/new told && break; sleep 0.1; done
grep -q resources/disk/d/new told
kill %1
rm -r mnt/uploads/copy
"$PYTHON" - << END
from pathlib import Path
from fusestore.client import Client
with Client(Path("store/control.sock")) as client:
    made = client.call("files.register", {"name": "f", "text": "registered"})
    assert Path("mnt", made["path"]).read_text() == "registered"
    assert client.call("files.unlink", {"id": made["id"]}) == {"removed": True}
END
fusestore umount mnt
fusestore check store
echo all done
"""


@pytest.fixture
def fuse_for_all() -> Iterator[None]:
    """/dev/fuse open to everyone, as udev makes it; minimal machines leave it to root."""
    before = os.stat("/dev/fuse").st_mode & 0o777
    if os.geteuid() == 0:
        os.chmod("/dev/fuse", 0o666)
    yield
    if os.geteuid() == 0:
        os.chmod("/dev/fuse", before)


def test_an_ordinary_user_mounts_uses_and_unmounts_a_store(interpreter: Path, fuse_for_all: None) -> None:
    base = Path("/tmp") / f"fusestore-user-{os.getpid()}"  # pytest's own folders are closed to others
    base.mkdir()
    modules = [entry for entry in sys.path if entry.endswith("site-packages")]
    environment = {
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": str(base),
        "BASE": str(base),
        "PYTHON": str(interpreter),
        "PYTHONPATH": ":".join([str(PROJECT), *modules]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LD_LIBRARY_PATH": str(interpreter.parents[1] / "lib"),
        "LC_ALL": "C.UTF-8",
    }
    uid = os.geteuid() or NOBODY
    os.chown(base, uid, -1)
    try:
        done = subprocess.run(
            ["bash", "-c", SESSION],
            env=environment,
            user=None if os.geteuid() else NOBODY,
            group=None if os.geteuid() else NOBODY,
            extra_groups=None if os.geteuid() else [],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            cwd="/",
            check=False,
        )
        log = base / "store" / "fusestore.log"
        told = log.read_text() if log.exists() else "no log"
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{told}"
        assert done.stdout.endswith("all done\n")
        assert "Traceback" not in told
    finally:
        subprocess.run(["umount", "-l", base / "mnt"], capture_output=True, check=False)  # there only after a failure
        shutil.rmtree(base, ignore_errors=True)
