"""fusestore: one mounted tree over several storage places, with ids, hashes, tracked moves and events."""
