"""Envelope and validation under a coverage-guided fuzzer: no text may bring out anything but the answer it must get.

    python -m tests.rpc.fuzz.atheris_requests [-max_total_time=SECONDS] DIRECTORY

The options are libFuzzer's. What it finds interesting goes to DIRECTORY/corpus, what broke a rule into the file
crash-... that it names.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["vethd.rpc", "vethd.validation", "json"]):
    from tests.rpc.fuzz.answering import answer
    from tests.rpc.fuzz.requests import METHODS, nested_models


def main() -> None:
    """Entry point: libFuzzer takes over, and ends the process."""
    *options, directory = sys.argv
    corpus, dictionary = Path(directory) / "corpus", Path(directory) / "words"
    corpus.mkdir(exist_ok=True)
    for n, (method, params) in enumerate(METHODS.items()):
        request = {"jsonrpc": "2.0", "id": n, "method": method, "params": {}}
        every = request | {"params": dict.fromkeys(params.model_fields)}
        for name, text in (
            ("empty", request),
            ("every", every),
            ("batch", [every, {"jsonrpc": "2.0", "method": method}]),
        ):
            (corpus / f"{method}.{name}").write_text(json.dumps(text))
    words = {
        name for params in METHODS.values() for model in (params, *nested_models(params)) for name in model.model_fields
    }
    dictionary.write_text("".join(f'"\\"{word}\\":"\n' for word in sorted(words)))
    atheris.Setup([*options, f"-dict={dictionary}", str(corpus)], answer)
    atheris.Fuzz()


main()
