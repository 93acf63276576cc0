#!/usr/bin/env bash
# Unpacks the peers that `bench/monitor` and `bench/mirror` are measured beside into target/peers, from Debian's packages:
# nothing is installed, and nothing of the system is changed. Whatever is installed already is preferred. xcp and rcp are in no package:
# cargo builds them. dirsync comes with what `make test` installs for Python. Called by `make peers`.
set -eu

peers=(collectd-core prometheus-node-exporter sysstat rclone unison-2.52)
place=$PWD/target/peers
mkdir -p "$place/packages"
cd "$place/packages"
apt-get download "${peers[@]}"
for package in *.deb; do dpkg-deb --extract "$package" "$place"; done
[ -e "$place/usr/bin/unison" ] || ln -s unison-2.52 "$place/usr/bin/unison"
[ -e "$place/bin/xcp" ] || cargo install --quiet --locked --root "$place" xcp
[ -e "$place/bin/rcp" ] || RUSTFLAGS="--cfg tokio_unstable" cargo install --quiet --locked --root "$place" rcp-tools-rcp
echo "peers are in $place"
