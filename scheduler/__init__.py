"""JOB > PLAN > RUN > SHARDS, and REPORTS > LEDGER: the scheduler, its store and its command line."""
