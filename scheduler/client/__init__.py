"""The command line's side of the scheduler's HTTP API."""
