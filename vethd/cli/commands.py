"""All commands: their words, what they are for, and where they are. Help, completion and the manual read this table.

What is run is imported only then, so that a long list costs nothing.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from vethd.cli.options import OPTIONS


class Command(NamedTuple):
    """One command.

    names: how it is called behind its object, the first one in full; empty for objects that have one command only.
    usage: the words behind `vethctl`, in lines. summary: one line. text: more. run: module:function.
    """

    names: tuple[str, ...]
    usage: tuple[str, ...]
    summary: str
    text: str
    run: str


class Object(NamedTuple):
    """What commands are about. default: the command that is meant when none is named, or None."""

    name: str
    commands: tuple[Command, ...]
    default: Command | None
    hidden: bool = False

    @property
    def verbs(self) -> bool:
        """Whether a word behind it names a command."""
        return bool(self.commands[0].names)


def _alone(name: str, usage: tuple[str, ...], summary: str, text: str, run: str, hidden: bool = False) -> Object:
    """An object that has one command, without a name."""
    command = Command((), usage, summary, text, run)
    return Object(name, (command,), command, hidden)


_LINK: Final = (
    Command(
        ("add",),
        (
            "link add [ dev ] NAME [ END ] type veth",
            "         [ peer [ name ] NAME [ END ] ]",
            "         [ placement { move | inside } ] [ numqueues NUMBER ]",
            "         [ overload { drop | backpressure } ]",
            "         [ label KEY=VALUE ]...",
        ),
        "make a pair",
        "`%d` in a NAME asks for a free number. With -j the two ends are printed, with the "
        "names that were chosen. An END without a netns is made in your own namespace (-n). "
        "placement: `move` (default) lets the namespace be deleted at any time, `inside` "
        "is quicker and keeps it alive. numqueues: 1 to 256, fixed for life. overload: "
        "what happens while the backlog is full, instead of what the configuration says. "
        "Several pairs are best made by a batch: vethctl -b FILE.",
        "vethd.cli.link:add",
    ),
    Command(
        ("set", "change"),
        (
            "link set [ dev ] NAME [ up | down ] [ name NEWNAME ]",
            "         [ netns NETNS ] [ address MAC ] [ mtu BYTES ]",
            "         [ txqueuelen FRAMES ] [ alias TEXT ]",
            "         [ gro { on | off } ] [ worker NUMBER ]",
            "         [ master BRIDGE | nomaster ]",
            "         [ overload { drop | backpressure } ]",
            "         [ label KEY=VALUE ]... [ nolabel KEY ]...",
        ),
        "change an end or its pair",
        "Everything is changed, or nothing. netns is, as in ip(8), where NAME shall go; the "
        "namespace in which it is now is named by -n: vethctl -n red link set veth0 up. "
        "Without -n it is your own, or else the only one that has a link of that name.\n"
        'label, nolabel, worker and overload concern the pair. alias "" restores the '
        "daemon's own. worker moves the pair to another worker without losing a frame.",
        "vethd.cli.link:change",
    ),
    Command(
        ("delete",),
        ("link delete [ dev ] NAME [ netns NETNS ]",),
        "delete a pair by one of its ends",
        "Both devices are gone when the command returns.",
        "vethd.cli.link:delete",
    ),
    Command(
        ("show", "list", "lst"),
        ("link show [ [ dev ] NAME ] [ netns NETNS ]", "          [ label KEY[=VALUE] ]... [ origin ORIGIN ]"),
        "show links; what `link` alone does",
        "-s adds counters as kernel veth counts them, -s -s the drop points and where each "
        "frame is, -d pair, workers and offloads. NAME is looked up in your own namespace, "
        "or else in all; if it is in several, netns says which. A label without a value "
        "selects whatever has it. In JSON: ip's names, and more.",
        "vethd.cli.link:show",
    ),
)

_STATS: Final = _alone(
    "stats",
    (
        "stats [ [ dev ] NAME ] [ netns NETNS ] [ origin ORIGIN ]",
        "      [ label KEY[=VALUE] ]... [ interval SECONDS ]",
    ),
    "counters of links, one line each",
    "Since each link was made; with an interval, what came in so many seconds from now "
    "on. rx and tx as kernel veth charges them, drops by drop point with -s.",
    "vethd.cli.stats:stats",
)
_SOFTNET: Final = (
    Command(
        ("show",),
        ("softnet [ show ]",),
        "the backlog of each worker",
        "In the words of /proc/net/softnet_stat.",
        "vethd.cli.stats:softnet",
    ),
)
_SYSCTL: Final = _alone(
    "sysctl",
    ("sysctl [ [ get ] NAME... | [ set ] NAME=VALUE... ]",),
    "read and change the backlog's limits",
    "As sysctl(8): without a NAME all are shown. NAME with or without `net.core.`: "
    "netdev_max_backlog, netdev_budget, dev_weight (frames), netdev_budget_usecs, "
    "busy_poll (microseconds). Changes are for all workers, all or none of them, and "
    "until the daemon ends; the configuration file makes them last.",
    "vethd.cli.sysctl:sysctl",
)
_MONITOR: Final = _alone(
    "monitor",
    ("monitor [ TOPIC ]... [ since SERVER_ID:SEQ ]",),
    "print what happens, as it happens",
    "Without a TOPIC, everything. link: made, changed, moved, deleted. drop: at most once a second per end and drop "
    "point, with how many frames. -t and -ts say when, -n leaves out what is about links elsewhere. -j prints one JSON "
    "text per line. since: first what was missed after the event that has this server_id and seq; if that is not known "
    "any more, or of an earlier run of the daemon, the status is 2 at once. It ends with status 2 when the daemon goes "
    "away.",
    "vethd.cli.monitor:monitor",
)
_CONFIG: Final = (
    Command(
        ("apply",),
        ("config apply FILE [ prune ] [ dry-run ]",),
        "make the static pairs what FILE says",
        "FILE has [[pair]] tables, see vethd.toml(5); - is standard input. Pairs are "
        "created and changed; with prune, static pairs that are not in FILE are removed. "
        "Pairs made otherwise are never touched. dry-run only prints what would be done. "
        "The status is 2 if a pair failed; the others are done nevertheless.",
        "vethd.cli.config:apply",
    ),
    Command(
        ("save",),
        ("config save [ FILE ]",),
        "write the file that rebuilds the present state",
        "To standard output, or to FILE, which is replaced. What no file can describe is\nlisted on standard error.",
        "vethd.cli.config:save",
    ),
)
_DAEMON: Final = (
    Command(
        ("info",),
        ("daemon [ info ]",),
        "what runs, and how full it is",
        "-d adds limits, capabilities and what the kernel has.",
        "vethd.cli.daemon:info",
    ),
    Command(
        ("reexec",),
        ("daemon reexec",),
        "replace the running program by what is installed now",
        "Links stay, and frames keep flowing. Returns when the new program answers.",
        "vethd.cli.daemon:reexec",
    ),
)
_TOP: Final = _alone(
    "top",
    (
        "top [ [ dev ] NAME ] [ netns NETNS ] [ origin ORIGIN ]",
        "    [ label KEY[=VALUE] ]... [ interval SECONDS ]",
    ),
    "a live view of rates, drops and backlogs",
    "One line per link. Keys: q ends it, s sorts by the next column, p pauses, arrows "
    "or j and k scroll. The interval is 1 second unless given. Without a terminal it "
    "prints one interval and ends.",
    "vethd.cli.top.command:top",
)
_COMPLETION: Final = _alone(
    "completion",
    ("completion { bash | zsh | fish }",),
    "print what makes a shell complete vethctl's words",
    'bash: eval "$(vethctl completion bash)" in ~/.bashrc. zsh: the same in ~/.zshrc, '
    "behind compinit. fish: vethctl completion fish > ~/.config/fish/completions/vethctl.fish",
    "vethd.cli.complete:completion",
)

#: In the order in which an abbreviation is looked up.
OBJECTS: Final = (
    Object("link", _LINK, _LINK[3]),
    _STATS,
    Object("softnet", _SOFTNET, _SOFTNET[0]),
    _SYSCTL,
    _MONITOR,
    Object("config", _CONFIG, None),
    Object("daemon", _DAEMON, _DAEMON[0]),
    _TOP,
    _COMPLETION,
    _alone(
        "complete", ("complete -- WORD...",), "candidates for the last word", "", "vethd.cli.complete:complete", True
    ),
)

_WIDTH: Final = 80  # columns of help

#: Placeholders of the usage lines.
DEFINITIONS: Final = {
    "END": (
        "[ netns NETNS ] [ address MAC ] [ mtu BYTES ]",
        "[ txqueuelen FRAMES ] [ alias TEXT ]",
        "[ gro { on | off } ] [ master BRIDGE ] [ up | down ]",
    ),
    "NETNS": ("{ NAME | PID | PATH }",),
    "TOPIC": ("{ all | link | carrier | worker | drop | config | daemon }",),
    "ORIGIN": ("{ config | api | cni | docker | oci }",),
}


def _definitions(usages: list[tuple[str, ...]]) -> list[str]:
    """The placeholders that the usages have, and those that these have."""
    words = " ".join(line for usage in usages for line in usage).split()
    used: dict[str, tuple[str, ...]] = {}
    for name, meaning in DEFINITIONS.items():
        if name in words:
            used[name] = meaning
            words += " ".join(meaning).split()
    lines = [
        f"{f'{name} := ' if at == 0 else '':>15}{line}"
        for name, meaning in used.items()
        for at, line in enumerate(meaning)
    ]
    if lines:
        lines[0] = "where" + lines[0][5:]
    return lines


def _usage(commands: list[Command]) -> list[str]:
    usages = [command.usage for command in commands]
    lines = [
        f"       {'vethctl ' if at == 0 else '        '}{line}" for usage in usages for at, line in enumerate(usage)
    ]
    lines[0] = "Usage:" + lines[0][6:]
    return lines + _definitions(usages)


def _text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def help_all() -> str:
    """What `vethctl help` prints."""
    commands = [
        (" ".join((object_.name, *command.names[:1])), command.summary)
        for object_ in OBJECTS
        if not object_.hidden
        for command in object_.commands
    ]
    return _text(
        [
            "Usage: vethctl [ OPTIONS ] OBJECT [ COMMAND ] [ help ]",
            "       vethctl [ OPTIONS ] -b[atch] FILE",
            "",
            *(f"  {name:<13} {summary}" for name, summary in commands),
            "",
            *(f"  {option.shown:<15} {option.text}" for option in OPTIONS),
            "",
            "Words may be abbreviated. The status is 0; 255 when the words make no sense, 1",
            "when the link or the daemon is not there, 2 when daemon or kernel refuse.",
        ]
    )


def help_object(object_: Object) -> str:
    """What `vethctl OBJECT help` prints."""
    if not object_.verbs:
        return help_command(object_.commands[0])
    lines = _usage(list(object_.commands))
    width = max(len(command.names[0]) for command in object_.commands)
    return _text([*lines, "", *(f"{command.names[0]:<{width}}  {command.summary}" for command in object_.commands)])


def help_command(command: Command) -> str:
    """What `vethctl OBJECT COMMAND help` prints."""
    from textwrap import wrap

    summary = f"{command.summary[0].upper()}{command.summary[1:]}."
    return _text([*_usage([command]), "", summary, *([""] if command.text else []), *wrap(command.text, _WIDTH)])
