#!/usr/bin/env bash
# Make an empty root file system with Python, make and git: tests/deploy/empty_root.sh DIR
# Needs root on Debian, and debootstrap. It gets the machine's name servers, certificates and pip
# configuration, without which a package index behind a proxy would be out of reach.
set -euo pipefail

DIR=${1:?give the folder to make}
if ((EUID != 0)) || ! command -v debootstrap >/dev/null; then
    echo "an empty root file system needs root, and debootstrap (apt-get install debootstrap)" >&2
    exit 77
fi

# shellcheck source=/dev/null
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
debootstrap --variant=minbase --include=python3,python3-venv,make,git,ca-certificates \
    "$release" "$DIR" "$mirror" >"$DIR.log" 2>&1 || { tail -n 5 "$DIR.log" >&2; exit 1; }

rm -f "$DIR.log" "$DIR"/var/cache/apt/archives/*.deb
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
    [[ ! -e $file ]] || install -D -m 644 "$file" "$DIR$file"
done
for home in root home/newcomer; do
    [[ ! -e ${XDG_CONFIG_HOME:-$HOME/.config}/pip/pip.conf ]] || install -D -m 644 \
        "${XDG_CONFIG_HOME:-$HOME/.config}/pip/pip.conf" "$DIR/$home/.config/pip/pip.conf"
done
chroot "$DIR" useradd --uid 1000 --home-dir /home/newcomer --shell /bin/sh newcomer
chown -R 1000:1000 "$DIR/home/newcomer"
