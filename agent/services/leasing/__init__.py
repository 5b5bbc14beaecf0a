"""Where the lease of an account is kept: at the hub, in a shared PostgreSQL, or on this machine alone (`exclusive = true`)."""
