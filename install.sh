#!/bin/sh
# Called by make, which has built everything before: install.sh install|uninstall
#
# Puts vethd below $PREFIX and its configuration into $SYSCONFDIR, both below $DESTDIR where that is set; a package is made
# that way, so then nothing is done but copying. What was put where stands in lib/vethd/manifest, and goes by it again.
set -eu

lib=$PREFIX/lib/vethd
manifest=$lib/manifest
case $PREFIX in
/usr) zsh=$PREFIX/share/zsh/vendor-completions ;;
*) zsh=$PREFIX/share/zsh/site-functions ;;
esac
new=
record=$(mktemp)
trap 'rm -rf "$record" ${new:+"$new"}' EXIT

# directory PATH: make it and what is missing above it.
directory() {
    [ -d "$DESTDIR$1" ] && return
    directory "$(dirname "$1")"
    mkdir "$DESTDIR$1"
    echo "directory $1" >>"$record"
}

# file SOURCE PATH: units name the program by its path.
file() {
    directory "$(dirname "$2")"
    case $1 in
    systemd/*) sed "s|/usr/lib/vethd/|$lib/|g" "$1" ;;
    *) cat "$1" ;;
    esac >"$DESTDIR$2.new"
    chmod 0644 "$DESTDIR$2.new"
    mv "$DESTDIR$2.new" "$DESTDIR$2"
    echo "file $2" >>"$record"
}

link() {
    directory "$(dirname "$2")"
    ln -sfn "$1" "$DESTDIR$2"
    echo "file $2" >>"$record"
}

# The program, in an environment of its own and made from files that are here already. A running daemon keeps the old one
# until there is the whole new one.
program() {
    directory "$lib"
    new=$DESTDIR$lib.new
    rm -rf "$new" "$DESTDIR$lib.old"
    "$PYTHON" -m venv --without-pip "$new"
    .venv/bin/pip --python "$new/bin/python" --disable-pip-version-check -q install --no-index --no-deps build/wheels/*.whl
    rm -f "$new"/bin/[Aa]ctivate*
    for client in cni oci; do
        launcher "vethd.$client.main" >"$new/bin/vethd-$client"
    done
    find "$new/bin" -type f -exec sed -i "1s|^#!$new/|#!$lib/|" {} +
    sed -i "s|$new|$lib|g" "$new/pyvenv.cfg"
    cp "$record" "$new/manifest"
    mv "$DESTDIR$lib" "$DESTDIR$lib.old"
    mv "$new" "$DESTDIR$lib"
    rm -rf "$DESTDIR$lib.old"
}

# launcher MODULE: a runtime starts these for every container, and without what the module site does that takes half the
# time.
launcher() {
    cat <<-END
		#!$lib/bin/python -IS
		import sys

		sys.path.append("$lib/$(cd "$new" && echo lib/python3*/site-packages)")
		from $1 import main

		main()
	END
}

# Keeps what somebody has written. The manifest knows what the file was when it was installed.
configuration() {
    path=$SYSCONFDIR/vethd/vethd.toml
    directory "$SYSCONFDIR/vethd/conf.d"
    if [ ! -e "$DESTDIR$path" ] || as_installed; then
        sed -i '/^config /d' "$record"
        file config/vethd.toml "$path"
        echo "config $(sha256sum <"$DESTDIR$path")" >>"$record"
    else
        echo "install: $path is kept as it is"
    fi
}

as_installed() {
    grep -qxF "config $(sha256sum <"$DESTDIR$SYSCONFDIR/vethd/vethd.toml")" "$record"
}

accounts() {
    command -v systemd-sysusers >/dev/null || {
        echo "install: no systemd-sysusers here; make the user vethd and the groups vethd and vethd-ro yourself"
        return
    }
    for name in vethd vethd-worker; do
        getent passwd $name >/dev/null || echo "user $name" >>"$record"
    done
    for name in vethd vethd-ro vethd-worker; do
        getent group $name >/dev/null || echo "group $name" >>"$record"
    done
    systemd-sysusers "$PREFIX/lib/sysusers.d/vethd.conf"
    systemd-tmpfiles --create "$PREFIX/lib/tmpfiles.d/vethd.conf"
}

running() {
    [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]
}

install() {
    [ ! -e "$DESTDIR$manifest" ] || cat "$DESTDIR$manifest" >"$record"
    program
    link ../lib/vethd/bin/vethd "$PREFIX/sbin/vethd"
    link ../lib/vethd/bin/vethd-docker "$PREFIX/sbin/vethd-docker"
    link ../lib/vethd/bin/vethctl "$PREFIX/bin/vethctl"
    for plugins in "$PREFIX/lib/cni" /opt/cni/bin; do # between them, every runtime looks there
        link "$lib/bin/vethd-cni" "$plugins/vethd-cni"
    done
    link ../lib/vethd/bin/vethd-oci "$PREFIX/bin/vethd-oci"
    for unit in vethd.service vethd.socket vethd-netns.socket vethd-netns@.service \
        vethd-docker.service vethd-docker.socket; do
        file "systemd/$unit" "$PREFIX/lib/systemd/system/$unit"
    done
    file systemd/vethd.sysusers "$PREFIX/lib/sysusers.d/vethd.conf"
    file systemd/vethd.tmpfiles "$PREFIX/lib/tmpfiles.d/vethd.conf"
    for page in build/man/*; do
        file "$page" "$PREFIX/share/man/man${page##*.}/${page##*/}"
    done
    file build/completion/bash "$PREFIX/share/bash-completion/completions/vethctl"
    file build/completion/zsh "$zsh/_vethctl"
    file build/completion/fish "$PREFIX/share/fish/vendor_completions.d/vethctl.fish"
    configuration
    [ -n "$DESTDIR" ] || accounts
    sort -u "$record" >"$DESTDIR$manifest"
    if running; then
        systemctl daemon-reload
        echo "install: \`systemctl enable --now vethd\` starts vethd; \`systemctl restart vethd\` replaces one that runs"
    fi
}

uninstall() {
    [ -e "$DESTDIR$manifest" ] || { echo "uninstall: nothing is installed below $DESTDIR$PREFIX"; exit 1; }
    cat "$DESTDIR$manifest" >"$record"
    ! running || systemctl --quiet disable --now \
        vethd-docker.service vethd-docker.socket vethd.service vethd.socket vethd-netns.socket
    path=$SYSCONFDIR/vethd/vethd.toml
    if [ -e "$DESTDIR$path" ] && ! as_installed; then
        echo "uninstall: $path is kept: it is not as it was installed"
        sed -i "\|^file $path$|d" "$record"
    fi
    rm -rf "$DESTDIR$lib"
    [ -n "$DESTDIR" ] || rm -rf /run/vethd /var/lib/vethd
    sed -n 's/^file //p' "$record" | while read -r path; do rm -f "$DESTDIR$path"; done
    sed -n 's/^directory //p' "$record" | sort -r | while read -r path; do
        rmdir --ignore-fail-on-non-empty "$DESTDIR$path" 2>/dev/null || true
    done
    sed -n 's/^user //p' "$record" | while read -r name; do userdel "$name"; done
    sed -n 's/^group //p' "$record" | while read -r name; do ! getent group "$name" >/dev/null || groupdel "$name"; done
    ! running || systemctl daemon-reload
}

umask 022
[ -z "$DESTDIR" ] || mkdir -p "$DESTDIR"
"$1"
