SETUPS: tuple[int, ...]
