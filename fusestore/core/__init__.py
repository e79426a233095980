"""The rules: names, placement, moves, reconciling. Pure: imports neither os, trio, lmdb nor pyfuse3."""
