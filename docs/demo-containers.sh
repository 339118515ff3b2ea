#!/usr/bin/env bash
# make demo-containers: two containers on a wire, then three tiers on two networks, by runc and the hook vethd-oci.
# All of it happens in namespaces of its own, with a daemon of its own: what ends with this script leaves nothing.
set -euo pipefail

if [ "$(id -u)" != 0 ]; then
    echo "demo: needs root for namespaces and containers; \`make demo-containers\` takes care of that" >&2
    exit 1
fi

if [ "${1:-}" != inside ]; then
    dir=$(mktemp -d "${TMPDIR:-/tmp}/vethd-demo.XXXXXX")
    trap 'rm -rf "$dir"' EXIT
    trap : INT TERM HUP # the one inside ends, and then we do
    unshare --mount --net --pid --fork --kill-child=KILL --mount-proc bash "$0" inside "$dir"
    exit
fi
dir=$2

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
    title=$'\e[1m' command=$'\e[36m' off=$'\e[0m'
else
    title='' command='' off=''
fi
step() { printf '\n%s%s%s\n' "$title" "$*" "$off"; }
run() {
    printf '%s$ %s%s\n' "$command" "$*" "$off"
    timeout --foreground 30 "$@" 2>&1 | sed -u 's/^/  /'
}

# Containers are killed one by one, so that runc takes their cgroups away.
id=${dir##*.}
cleanup() {
    status=$?
    trap - EXIT
    for name in web app db ping pong; do
        if [ -d "$dir/$name" ]; then runc delete --force "$name-$id" >/dev/null 2>&1 || true; fi
    done
    if [ "$status" != 0 ]; then
        printf '\ndemo: stopped with status %s; the last words of vethd:\n' "$status" >&2
        tail -n 5 "$dir/log" >&2
    fi
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

mount -t tmpfs tmpfs /run
mkdir /run/vethd
ip link set lo up
cd "$dir"
mkdir -p rootfs/{bin,dev,etc,proc,sys,tmp,srv/cgi-bin}
cp "$(command -v busybox)" rootfs/bin
for applet in $(busybox --list | grep -vx busybox); do ln -s busybox "rootfs/bin/$applet"; done

# The page of each tier holds what the tier behind it says.
behind() { echo "echo \"\$(hostname) says: \$(wget -qO- $1)\""; }
declare -A page=([db]='echo hello from $(hostname)')
page[app]=$(behind http://10.88.2.3/cgi-bin/db)
page[web]=$(behind http://10.88.1.2/cgi-bin/app)
for tier in "${!page[@]}"; do
    printf '#!/bin/sh\necho\n%s\n' "${page[$tier]}" >"rootfs/srv/cgi-bin/$tier"
    chmod +x "rootfs/srv/cgi-bin/$tier"
done

# container NAME ANNOTATION=VALUE...: start one, which serves pages.
container() {
    local name=$1 annotations
    shift
    mkdir "$name"
    (cd "$name" && runc spec)
    annotations=$(printf '%s\n' "$@" | jq --raw-input 'split("=") | {(.[0]): .[1]}' | jq --slurp add)
    jq --arg root "$dir/rootfs" --arg hook "$(command -v vethd-oci)" --arg host "$name" \
        --argjson annotations "$annotations" '
        .process.terminal = false | .process.args = ["httpd", "-f", "-h", "/srv"] | .root.path = $root | .hostname = $host
        | .process.capabilities[] += ["CAP_NET_RAW"] | .annotations = $annotations
        | .hooks = ([{path: $hook, args: ["vethd-oci"]}] | {createRuntime: ., poststop: .})' \
        "$name/config.json" >"$name/new"
    mv "$name/new" "$name/config.json"
    printf '%s$ runc run --detach --bundle %s %s%s\n' "$command" "$name" "$name" "$off"
    printf '  %s\n' "$@"
    runc run --detach --bundle "$name" "$name-$id" >"$name/out" 2>&1 </dev/null || { cat "$name/out"; exit 1; }
}

inside() {
    local name=$1
    shift
    printf '%s$ runc exec %s %s%s\n' "$command" "$name" "$*" "$off"
    timeout --foreground 30 runc exec "$name-$id" "$@" 2>&1 | sed -u 's/^/  /'
}

# The page of a tier, once its server listens.
page() {
    for _ in {1..50}; do
        if runc exec "$1-$id" wget -qO /dev/null "$2" 2>/dev/null; then break; fi
        sleep 0.1
    done
    inside "$1" wget -qO- "$2"
}

step "A daemon, and a bridge"
vethd --socket /run/vethd/control.sock >"$dir/log" 2>&1 &
until timeout --foreground 2 vethctl daemon info >/dev/null 2>&1; do
    if ! kill -0 $! 2>/dev/null || [ "$SECONDS" -gt 20 ]; then exit 1; fi
    sleep 0.05
done
run ip link add front address 02:00:00:00:00:01 up type bridge

step "Two containers: what their annotations say is what they get"
for each in ping:10.88.1.1 pong:10.88.1.2; do
    container "${each%:*}" vethd.network.eth0.bridge=front "vethd.network.eth0.addresses=${each#*:}/24"
done
inside ping ip address show dev eth0
inside ping ping -c 3 10.88.1.2
run vethctl link show label container="ping-$id"

step "Kill one: its pair goes with it, at once"
run runc kill "ping-$id" KILL
until [ "$(vethctl -j link show | jq length)" = 2 ]; do sleep 0.01; done
run vethctl link show
run runc delete --force "ping-$id"
run runc delete --force "pong-$id"

step "Three tiers on two networks: web - app - db"
run ip link add back address 02:00:00:00:00:02 up type bridge
container db vethd.network.eth0.bridge=back vethd.network.eth0.addresses=10.88.2.3/24
container app vethd.network.eth0.bridge=front vethd.network.eth0.addresses=10.88.1.2/24 \
    vethd.network.eth1.bridge=back vethd.network.eth1.addresses=10.88.2.2/24
container web vethd.network.eth0.bridge=front vethd.network.eth0.addresses=10.88.1.1/24
page app http://10.88.2.3/cgi-bin/db
page web http://10.88.1.2/cgi-bin/app
page web http://127.0.0.1/cgi-bin/web
answer=$(runc exec "web-$id" wget -qO- http://127.0.0.1/cgi-bin/web)
if [ "$answer" != "web says: app says: hello from db" ]; then
    echo "demo: web should not say: $answer" >&2
    exit 1
fi
step "web has no way to db, but through app"
if inside web timeout 2 ping -c 1 10.88.2.3; then
    echo "demo: web should not reach db" >&2
    exit 1
fi
run vethctl -s link show

step "Stop them: nothing is left"
for name in web app db; do run runc delete --force "$name-$id"; done
if [ "$(vethctl -j link show)" != "[]" ]; then
    echo "demo: there are still pairs" >&2
    exit 1
fi
run vethctl -j link show
