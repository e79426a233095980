"""Backing bytes: the only package that touches the files on a root's disk.

It implements the `Driver` port of `core.ports` and may import `core`, `config`, `model` and `errors`, nothing above.
"""
