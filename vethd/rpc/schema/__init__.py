"""What requests and results look like: the one source of validation, rpc.discover, docs/rpc.md and the client's types.

Parameters are pydantic models, checked before anything happens; unknown fields are refused. Results are TypedDicts:
what the methods return, and what clients may rely on. The text under a field describes it.
"""
