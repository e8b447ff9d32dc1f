"""The scheduler's HTTP API: a process of its own that reads the store, leaves orders in it, and keeps plans' files."""
