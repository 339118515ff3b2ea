"""The life of a pair: its states (pair), its making (create) and end (delete), how it follows the world (follow)."""
