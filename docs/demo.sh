#!/usr/bin/env bash
# make demo: a private daemon, one pair between two fresh namespaces, traffic over it, and nothing left afterwards.
# Whatever happens on the way, Ctrl-C included, `cleanup` takes everything away again.
set -euo pipefail

if [ "$(id -u)" != 0 ]; then
    echo "demo: needs root for namespaces and TAP devices; \`make demo\` takes care of that" >&2
    exit 1
fi
if [ ! -c /dev/net/tun ]; then
    echo "demo: /dev/net/tun is missing; \`modprobe tun\` on the host brings it" >&2
    exit 1
fi

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
    title=$'\e[1m' command=$'\e[36m' off=$'\e[0m'
else
    title='' command='' off=''
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/vethd-demo.XXXXXX") # 0700: nobody else reaches this daemon
red=red-${dir##*.}
blue=blue-${dir##*.}
export VETHD_SOCKET=$dir/control.sock
daemon=''

step() { printf '\n%s%s%s\n' "$title" "$*" "$off"; }
show() { printf '%s$ %s%s\n' "$command" "$*" "$off"; }
run() {
    show "$*"
    timeout --foreground 30 "$@" 2>&1 | sed -u 's/^/  /'
}

# Every process that was started here, workers included: they inherit VETHD_SOCKET, and no other demo has this one.
processes() {
    local environ
    for environ in $(env -u VETHD_SOCKET grep -lszxF "VETHD_SOCKET=$VETHD_SOCKET" /proc/[0-9]*/environ); do
        environ=${environ#/proc/}
        echo "${environ%/environ}"
    done
}

stop_daemon() {
    local status=0
    kill -TERM "$daemon" 2>/dev/null || true
    for _ in {1..100}; do
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$daemon" 2>/dev/null || true
    wait "$daemon" || status=$?
    return "$status"
}

cleanup() {
    local status=$? left
    trap '' INT TERM HUP PIPE
    trap - EXIT
    set +e
    if [ "$status" != 0 ]; then
        printf '\ndemo: stopped with status %s, cleaning up\n' "$status"
        if [ "$status" -le 128 ] && [ -s "$dir/log" ]; then # above 128 it was a signal, such as Ctrl-C
            echo "demo: the daemon's last words:"
            tail -n 20 "$dir/log"
        fi
    fi >&2
    if [ -n "$daemon" ]; then stop_daemon 2>/dev/null; fi
    left=$(processes)
    if [ -n "$left" ]; then xargs kill -KILL <<<"$left" 2>/dev/null; fi
    wait 2>/dev/null # here, so that the shell does not report the killed ones
    ip netns del "$red" 2>/dev/null
    ip netns del "$blue" 2>/dev/null
    rm -rf "$dir"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
trap 'exit 141' PIPE

step "A private daemon"
show "export VETHD_SOCKET=$VETHD_SOCKET"
show "vethd --socket \$VETHD_SOCKET &"
setsid vethd --socket "$VETHD_SOCKET" >"$dir/log" 2>&1 &
daemon=$!
until timeout --foreground 2 vethctl daemon info >/dev/null 2>&1; do
    if ! kill -0 "$daemon" 2>/dev/null || [ "$SECONDS" -gt 10 ]; then exit 1; fi
    sleep 0.05
done
run vethctl daemon info

step "Two namespaces, and a pair between them"
run ip netns add "$red"
run ip netns add "$blue"
run vethctl link add veth0 netns "$red" up type veth peer name veth1 netns "$blue" up
run ip -n "$red" address add 192.0.2.1/24 dev veth0
run ip -n "$blue" address add 192.0.2.2/24 dev veth1
run ip -n "$red" address show dev veth0

step "Ping across"
run ip netns exec "$red" ping -c 5 -i 0.2 192.0.2.2

step "iperf3 for 3 seconds, there and back"
ip netns exec "$blue" iperf3 --server --forceflush >"$dir/iperf" 2>&1 &
iperf=$!
for _ in {1..50}; do
    if grep -qs listening "$dir/iperf"; then break; fi
    sleep 0.1
done
run ip netns exec "$red" iperf3 --client 192.0.2.2 --time 3 --forceflush
run ip netns exec "$red" iperf3 --client 192.0.2.2 --time 3 --forceflush --reverse
kill "$iperf"
wait "$iperf" 2>/dev/null || true

step "What crossed the wire"
run vethctl -s link show

step "Delete one end: both are gone"
run vethctl link del veth0 netns "$red"
run vethctl -j link show
run ip -n "$red" -brief link show
run ip -n "$blue" -brief link show
for name in "$red" "$blue"; do
    if [ "$(ip -n "$name" -oneline link show | wc -l)" != 1 ]; then
        echo "demo: $name should hold lo alone by now" >&2
        exit 1
    fi
done

step "Stop the daemon: nothing is left"
show "kill %vethd"
stop_daemon
run ip netns del "$red"
run ip netns del "$blue"

left=$(processes)
for path in "$VETHD_SOCKET" "/run/netns/$red" "/run/netns/$blue"; do
    if [ -e "$path" ]; then left+=" $path"; fi
done
if [ -n "$left" ]; then
    echo "demo: still there:" "$left" >&2
    exit 1
fi
daemon=''
echo "  no device, no namespace, no process, no socket"
