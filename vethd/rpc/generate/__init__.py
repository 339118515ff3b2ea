"""What is written from the methods' rows and the schema: the client's methods and types (vethd/rpc/wire.py and
vethd/rpc/shapes.py), and docs/rpc.md.
"""
