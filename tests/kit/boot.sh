#!/bin/sh
# Boots the machine's own systemd; called in fresh namespaces, as their process 1: boot.sh DIRECTORY TREE...
# The root is an overlay of the machine's: what is written is written to memory. Each TREE is copied into it.
set -eu
at=$1
shift

mount --make-rprivate /
mount -t tmpfs -o mode=755,size=512m tmpfs "$at"
mkdir "$at/upper" "$at/work" "$at/root"
for tree; do cp -a "$tree/." "$at/upper"; done
chmod 755 "$at/upper"
mount -t overlay -o "lowerdir=/,upperdir=$at/upper,workdir=$at/work" overlay "$at/root"
cd "$at/root"

# Settings of the whole machine can be read only; those of the network are this namespace's own.
mount -t proc -o nosuid,nodev,noexec proc proc
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
[ ! -e proc/sysrq-trigger ] || mount --bind -o ro /dev/null proc/sysrq-trigger
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup

mount -t tmpfs -o mode=755,nosuid,size=64k tmpfs dev
mkdir dev/pts dev/shm dev/net dev/mqueue
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 net/tun:10:200; do
    numbers=${node#*:}
    mknod -m 666 "dev/${node%%:*}" c "${numbers%:*}" "${numbers#*:}"
done

mount -t tmpfs -o mode=755,nosuid,nodev tmpfs run
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs tmp
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs var/log

# Nothing of the machine's own services, and of systemd's only what the tests use.
units=etc/systemd/system
rm -rf "$units"
mkdir "$units"
: >etc/fstab
for unit in systemd-udevd.service systemd-udev-trigger.service systemd-udevd-control.socket systemd-udevd-kernel.socket \
    systemd-sysctl.service systemd-modules-load.service systemd-timesyncd.service systemd-logind.service \
    systemd-networkd.service systemd-resolved.service systemd-random-seed.service systemd-update-utmp.service \
    systemd-hwdb-update.service systemd-firstboot.service systemd-sysusers.service systemd-binfmt.service \
    systemd-remount-fs.service systemd-machine-id-commit.service systemd-pstore.service systemd-boot-update.service \
    systemd-tmpfiles-setup-dev.service systemd-tmpfiles-setup.service systemd-tmpfiles-clean.timer \
    systemd-journal-flush.service systemd-journald-audit.socket systemd-initctl.socket tmp.mount dev-hugepages.mount \
    dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
    sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount kmod-static-nodes.service \
    systemd-ask-password-console.path systemd-ask-password-wall.path e2scrub_reap.service; do
    ln -s /dev/null "$units/$unit"
done
cat >"$units/test.target" <<END
[Unit]
Description=What tests need
Requires=basic.target
After=basic.target
AllowIsolate=yes
END

hostname vethd-test
pivot_root . .
umount -l . # the old root, which lies upon the new one
cd /
mount --make-rshared / # as systemd does where it is not told that it is in a container
exec env -i container=vethd-test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM=linux \
    /lib/systemd/systemd --system --unit=test.target --log-target=journal --show-status=no \
    --default-standard-output=journal </dev/null
