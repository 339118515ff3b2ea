"""Completion: what may stand where the cursor is, and the few lines that each shell needs to ask for it.

The words before the cursor are read by the code that would run them (vethd/cli/grammar.py). When it comes to the last
word, which is not finished, it says by its questions what may stand there, and is stopped.
"""

from __future__ import annotations

import os
from typing import Any, Final, NamedTuple, NoReturn

from vethd.cli.commands import OBJECTS
from vethd.cli.grammar import ANY, FILE, LABEL, LABEL_NAME, LINK, NETNS, SYSCTL, WORKER, UsageError, Words
from vethd.cli.main import dispatch
from vethd.cli.options import COLOR_MODES, OPTIONS, Options
from vethd.cli.request import Request
from vethd.cli.session import Session
from vethd.rpc.client import NotRunning, RpcError

_WITHIN: Final = 1.0  # seconds for the daemon to answer: somebody waits at a prompt
#: Second spellings, and what is not for people.
_NOT_OFFERED: Final = frozenset(
    {"change", "list", "lst", "lladdr", "txqlen", "qlen", "help", *(o.name for o in OBJECTS if o.hidden)}
)


class _Stop(Exception):
    """Raised when the cursor is reached."""


class _Unfinished(Words):
    """Words of which the last is being written. It notes what is asked for there: keywords and kinds of values."""

    def __init__(self, words: list[str]) -> None:
        super().__init__(words)
        self.offered: list[str] = []
        self.kinds: list[str] = []
        self.path: list[str] = []

    def _here(self) -> bool:
        return self._at == len(self._words) - 1

    def peek(self) -> str:
        return "" if self._here() else super().peek()

    def take(self, kind: str = ANY) -> str:
        if self._here():
            self.kinds.append(kind)
            raise _Stop
        return super().take(kind)

    def keyword(self, *keywords: str) -> str | None:
        if self._here():
            self.offered += keywords
            return None
        found = super().keyword(*keywords)
        if found is not None:
            self.path.append(found)
        return found

    def exact(self, *keywords: str) -> str | None:
        if self._here():
            self.offered += keywords
            return None
        return super().exact(*keywords)

    def only(self, keyword: str) -> bool:
        if self._here():
            self.offered.append(keyword)
            return False
        return super().only(keyword)


class _Still(Session):
    """A session in which no command gets anywhere."""

    def call(self, method: str, request: Request | None = None, **params: Any) -> NoReturn:
        raise _Stop


class Place(NamedTuple):
    """What may stand at the cursor: keywords and kinds of values. path: the keywords before it."""

    keywords: list[str]
    kinds: list[str]
    path: list[str]
    options: Options


def place(words: list[str]) -> Place:
    """What may stand in place of the last word."""
    options = Options()
    unfinished = _Unfinished(words)
    try:
        options.read(unfinished)
        dispatch(unfinished, _Still(options))
    except (_Stop, UsageError):  # UsageError: the words before make no sense, or nothing fits but what was asked for
        pass
    keywords = [word for word in dict.fromkeys(unfinished.offered) if word not in _NOT_OFFERED]
    return Place(keywords, unfinished.kinds, unfinished.path, options)


def candidates(words: list[str]) -> list[tuple[str, str]]:
    """What the last word may become, each with a description or ""."""
    here, last = place(words), words[-1]
    described = _descriptions(here.path)
    found = [word for word in here.keywords if word.startswith("-") == last.startswith("-")]
    if last.startswith("-c"):
        found += [f"{last.partition('=')[0]}={mode}" for mode in COLOR_MODES]
    found += [word for kind in here.kinds for word in _values(kind, last, here.options)]
    return [
        (word, described.get(word, "")) for word in dict.fromkeys(found) if word.startswith(last) and word.isprintable()
    ]


def _descriptions(path: list[str]) -> dict[str, str]:
    """What the words behind these keywords mean: those of options, objects and commands."""
    if not path:
        texts = {f"-{option.name}": option.text for option in OPTIONS}
        return texts | {o.name: ", ".join(command.summary for command in o.commands) for o in OBJECTS}
    for object_ in OBJECTS:
        if path == [object_.name] and object_.verbs:
            return {command.names[0]: command.summary for command in object_.commands}
    return {}


def _values(kind: str, last: str, options: Options) -> list[str]:
    """Values of a kind: files, and what the daemon knows."""
    if kind == FILE:
        return _files(last)
    here = _namespaces() if kind == NETNS else set()
    session = Session(options, within=_WITHIN)
    try:
        with Request() as request:
            return sorted(here | _asked(kind, session, request))
    except (NotRunning, RpcError, UsageError):
        return sorted(here)
    finally:
        session.close()


def _asked(kind: str, session: Session, request: Request) -> set[str]:
    if kind == SYSCTL:
        names = set(session.call("sysctl.get")["values"])
        return names | {name.removeprefix("net.core.") for name in names}
    if kind == WORKER:
        return {str(row["worker"]) for row in session.call("softnet.get")["workers"]}
    if kind not in (LINK, NETNS, LABEL, LABEL_NAME):
        return set()
    if kind != NETNS:
        session.here(request)
    pairs = session.call("link.list", request)
    ends = [pair[letter] for pair in pairs for letter in ("a", "b")]
    if kind == NETNS:
        return {end["netns"] for end in ends if end["netns"]}
    if kind == LINK:
        inode = request.inode()
        return {end["ifname"] for end in ends if inode is None or end["netns_inode"] == inode}
    labels = [label for pair in pairs for label in pair["labels"].items()]
    return {f"{name}={value}" if kind == LABEL else name for name, value in labels}


def _namespaces() -> set[str]:
    """Those of `ip netns`, which need not have a link yet."""
    return set(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else set()


def _files(last: str) -> list[str]:
    directory, name = os.path.split(last)
    try:
        entries = sorted(os.scandir(directory or "."), key=lambda entry: entry.name)
    except OSError:
        return []
    return [
        os.path.join(directory, entry.name) + ("/" if entry.is_dir() else "")
        for entry in entries
        if name.startswith(".") or not entry.name.startswith(".")
    ]


def complete(words: Words, session: Session) -> None:
    """`vethctl complete -- WORD...`: a candidate for the last word in each line, a tab and what it means behind it."""
    words.exact("--")
    line = []
    while words:
        line.append(words.take())
    for word, text in candidates(line or [""]):
        session.output.line(f"{word}\t{text}" if text else word)


def completion(words: Words, session: Session) -> None:
    """`vethctl completion SHELL`."""
    script = _SCRIPTS[words.choice("completion", *_SCRIPTS)]
    words.end()
    session.output.line(script.strip("\n"))


_BASH: Final = r"""
# bash completion for vethctl: eval "$(vethctl completion bash)"
_vethctl() {
    local words=() word last=${COMP_WORDS[COMP_CWORD]}
    for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do # bash cuts words at = and :
        if [[ ${#words[@]} -gt 0 && ( $word == [=:]* || ${words[-1]} == *[=:] ) ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
    done
    [[ $last == [=:] ]] && last=
    local prefix=${words[-1]%"$last"}
    COMPREPLY=()
    while IFS=$'\t' read -r word _; do
        printf -v word %q "${word#"$prefix"}" # whoever named a link does not get to run it
        COMPREPLY+=("$word")
    done < <("${COMP_WORDS[0]}" complete -- "${words[@]}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/] ]]; then
        compopt -o nospace
    fi
}
complete -F _vethctl vethctl
"""

_ZSH: Final = r"""
#compdef vethctl
# zsh completion for vethctl: eval "$(vethctl completion zsh)", behind compinit
_vethctl() {
    local line
    local -a found shown open
    for line in "${(@f)$("${words[1]}" complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        if [[ -z $line ]]; then
            continue
        elif [[ ${line%%$'\t'*} == *[=/] ]]; then
            open+=("${line%%$'\t'*}")
        else
            found+=("${line%%$'\t'*}")
            shown+=("${line/$'\t'/  -- }")
        fi
    done
    compadd -d shown -a found
    compadd -S '' -a open
}
if [[ ${funcstack[1]} == _vethctl ]]; then # a file of fpath: this is the first call
    _vethctl "$@"
else
    compdef _vethctl vethctl
fi
"""

_FISH: Final = r"""
# fish completion for vethctl: vethctl completion fish > ~/.config/fish/completions/vethctl.fish
function __vethctl_complete
    set -l words (commandline -opc)
    set -l last (commandline -ct)
    $words[1] complete -- $words[2..-1] "$last" 2>/dev/null
end
complete -c vethctl -f -k -a '(__vethctl_complete)'
"""

_SCRIPTS: Final = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
