"""Where attestations go. One module a transport; `http` is the hub's own."""
