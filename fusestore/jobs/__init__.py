"""Background work: each job is a task of the daemon and the only owner of its state. Only the daemon imports it."""
