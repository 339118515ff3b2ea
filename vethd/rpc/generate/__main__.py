"""Write the generated files anew: `make generate`."""

from __future__ import annotations

import sys

from vethd.rpc.generate.files import files


def main() -> None:
    """Write what changed."""
    for path, text in files().items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            sys.stderr.write(f"written: {path}\n")


if __name__ == "__main__":
    main()
