"""The people's door: the `fusestore` command.

It talks to a running daemon through `client` alone; `init`, `root add`, `mount` and `check` work without one
and use `config`, `daemon` and `index`. What is slow to import (trio, pyfuse3, lmdb, rich) is imported where it is used.
"""
