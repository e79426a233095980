"""Durable state: a redo log in front of LMDB, its tables, and the proof that they agree.

Import rule: may import `model`, `errors` and `core`; nothing outside this package imports lmdb or knows a key.
"""
