"""The command `vethctl`: options, then an object and a command, or a batch of them.

Exit status as `ip`: 0 done, 255 the words make no sense, 1 the object, the link, the file or the daemon is not there,
2 the daemon or the kernel refused.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from vethd import __version__
from vethd.cli.commands import OBJECTS, Command, Object, help_all, help_command, help_object
from vethd.cli.grammar import GrammarError, UsageError, Words
from vethd.cli.options import Options
from vethd.cli.session import Session
from vethd.rpc.client import NotRunning, RpcError


def dispatch(words: Words, session: Session) -> int:
    """Do what the words say; returns the exit status. Raises UsageError, RpcError, NotRunning, OSError."""
    name = words.keyword(*(object_.name for object_ in OBJECTS if not object_.hidden), "help")
    if name is None:
        name = words.exact(*(object_.name for object_ in OBJECTS if object_.hidden))
    if name == "help":
        return _help(words, session)
    for object_ in OBJECTS:
        if object_.name == name:
            return _run(object_, words, session)
    raise UsageError(f'Object "{words.take()}" is unknown.', "vethctl help lists the objects", status=1)


def _run(object_: Object, words: Words, session: Session) -> int:
    command = object_.default
    called = object_.name
    if object_.verbs and words:
        command = _command(object_, words)
        if command is None and words.keyword("help"):
            return _print(help_object(object_), session)
        if command is None:
            hint = f"vethctl {object_.name} help lists them"
            raise UsageError(f'Command "{words.take()}" is unknown.', hint)
        called = f"{object_.name} {command.names[0]}"
    if command is None:
        raise GrammarError("Command line is not complete.", hint=f"vethctl {object_.name} help lists the commands")
    if words.only("help"):
        return _print(help_command(command), session)
    module, function = command.run.split(":")
    try:
        status: int | None = getattr(import_module(module), function)(words, session)
    except GrammarError as error:
        raise UsageError(str(error), error.hint or f"vethctl {called} help shows the grammar") from None
    return status or 0


def _command(object_: Object, words: Words) -> Command | None:
    name = words.keyword(*(name for command in object_.commands for name in command.names))
    return next((command for command in object_.commands if name in command.names), None)


def _help(words: Words, session: Session) -> int:
    """`help [ OBJECT [ COMMAND ] ]`."""
    name = words.keyword(*(object_.name for object_ in OBJECTS if not object_.hidden))
    object_ = next((object_ for object_ in OBJECTS if object_.name == name), None)
    command = _command(object_, words) if object_ is not None and object_.verbs else None
    words.end()
    if command is not None:
        return _print(help_command(command), session)
    return _print(help_object(object_) if object_ is not None else help_all(), session)


def _print(text: str, session: Session) -> int:
    session.output.line(text.rstrip("\n"))
    return 0


def attempt(words: Words, session: Session) -> int:
    """Do what the words say, and say on standard error what failed; returns the exit status. Raises OSError."""
    try:
        return dispatch(words, session)
    except UsageError as error:
        return complain(str(error), error.hint, error.status)
    except NotRunning as error:
        return complain(f"vethctl: {error}", None, 1)
    except RpcError as error:
        status = 1 if error.kind == "no_such_link" else 2
        return complain(f"Error: {error.message}" + (f" [{error.errno}]" if error.errno else ""), error.hint, status)


def complain(text: str, hint: str | None, status: int) -> int:
    """Print an error and what to do about it; returns the exit status."""
    print(text + (f"\nhint: {hint}" if hint else ""), file=sys.stderr)
    return status


def run(arguments: list[str]) -> int:
    """Do what the arguments say; returns the exit status. Raises OSError, KeyboardInterrupt."""
    words = Words(arguments)
    options = Options()
    try:
        options.read(words)
    except UsageError as error:
        hint = "vethctl -help lists the options" if isinstance(error, GrammarError) else error.hint
        return complain(str(error), hint, error.status)
    session = Session(options)
    try:
        if options.version:
            session.output.line(f"vethctl {__version__}")
            return 0
        if options.help:
            return _print(help_all(), session)
        if options.batch is not None:
            from vethd.cli.batch import batch

            return batch(options.batch, words, session)
        if not words:
            sys.stderr.write(help_all())
            return 255
        return attempt(words, session)
    finally:
        session.close()


def main() -> None:
    """Entry point of `vethctl`."""
    try:
        try:
            status = run(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:  # standard output: `vethctl ... | head`, a full disk
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer goes nowhere
        if not isinstance(error, BrokenPipeError):
            complain(f"vethctl: write error: {error.strerror}", None, 1)
        sys.exit(1)
    sys.exit(status)


if __name__ == "__main__":
    main()
