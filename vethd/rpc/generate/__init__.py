"""What is written from the methods' rows and the schema: the client's types (vethd/rpc/wire.py) and docs/rpc.md."""
