"""The control socket: JSON-RPC 2.0 over a unix socket, one JSON text per line, file descriptors beside it."""
