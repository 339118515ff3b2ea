#!/bin/sh
# Makes a machine for containers out of fresh namespaces; called as their process 1: host.sh DIRECTORY CONTROLLER...
# DIRECTORY/vethd will be /run/vethd, and DIRECTORY/bin is put before /usr/local/bin; CONTROLLERs are the cgroup
# hierarchies of version 1, if any.
set -eu
at=$1
shift

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock /run/udev/data /run/vethd
mount --make-shared --bind /run/netns /run/netns
mount --bind "$at/vethd" /run/vethd
mount -t overlay -o "lowerdir=$at/bin:/usr/local/bin" overlay /usr/local/bin
for state in cni containers containerd docker lxc machines vethd; do
    mkdir -p "/var/lib/$state"
    mount -t tmpfs -o mode=755 tmpfs "/var/lib/$state"
done

# Everybody may run the programs: where only root may enter the checkout or a directory above it, that gives way to an
# empty one, and the checkout is shown with the mode of another directory.
checkout=$(realpath "$0" | sed 's,/tests/kit/.*,,')
closed=
above=$checkout
while [ "$above" != / ]; do
    [ -z "$(find "$above" -maxdepth 0 ! -perm -1)" ] || closed=$above
    above=$(dirname "$above")
done
if [ -n "$closed" ]; then
    mkdir -m 755 /run/checkout /run/open
    mount -t overlay -o "lowerdir=/run/open:$checkout" overlay /run/checkout
    if [ "$closed" != "$checkout" ]; then
        mount -t tmpfs -o mode=755 tmpfs "$closed"
        mkdir -p "$checkout"
    fi
    mount --move /run/checkout "$checkout"
    rmdir /run/checkout
fi

# A sysfs of this network namespace; a new one hides the cgroups.
mount -t sysfs sysfs /sys
if [ $# = 0 ]; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
else
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup # without version 2: crun knows either one or the other
    for controller; do
        mkdir "/sys/fs/cgroup/$controller"
        case $controller in systemd) options=none,name=systemd ;; *) options=$controller ;; esac
        mount -t cgroup -o "$options" cgroup "/sys/fs/cgroup/$controller"
    done
fi

ip link set lo up
: >/run/booted

# Takes in what others leave: wait returns when no child is left, and this one stays.
sleep infinity &
wait
