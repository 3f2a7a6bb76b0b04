"""Four graphs through the real commands, beside a sketch of the least that a durable DAG needs, and beside others."""
