"""Speed and memory beside the peers, on one disk in one run; what counts are the ratios (docs/performance.md)."""
