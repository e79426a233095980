"""Renames that never replace what has the new name, on every file system."""

from __future__ import annotations

import errno
import os
import stat

from fusestore.roots.syscalls import rename_noreplace


def rename_new(directory: int, name: bytes, to_directory: int, to_name: bytes) -> None:
    """Rename, or fail with EEXIST if the new name is taken by anything at all."""
    try:
        rename_noreplace(directory, name, to_directory, to_name)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        rename_by_claiming(directory, name, to_directory, to_name)


def rename_by_claiming(directory: int, name: bytes, to_directory: int, to_name: bytes) -> None:
    """The same where the file system lacks RENAME_NOREPLACE: what fails is the making of the new name.

    That is a hard link for all but directories, and an empty directory for those, because rename(2) may replace one. A
    crash in between leaves a file under both names, or an empty directory under the new one.
    """
    if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        os.mkdir(to_name, 0o700, dir_fd=to_directory)
        try:
            os.rename(name, to_name, src_dir_fd=directory, dst_dir_fd=to_directory)
        except BaseException:
            os.rmdir(to_name, dir_fd=to_directory)
            raise
    else:
        os.link(name, to_name, src_dir_fd=directory, dst_dir_fd=to_directory, follow_symlinks=False)
        os.unlink(name, dir_fd=directory)
