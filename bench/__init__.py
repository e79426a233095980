"""Speed and memory beside the peers on one machine in one run; what counts are the ratios."""
