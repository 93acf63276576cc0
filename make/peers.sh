#!/usr/bin/env bash
# Unpacks the peers that `bench/monitor` is measured beside into target/peers, from Debian's packages: nothing is
# installed, and nothing of the system is changed. Whatever is installed already is preferred. Called by `make peers`.
set -eu

peers=(collectd-core prometheus-node-exporter sysstat)
place=$PWD/target/peers
mkdir -p "$place/packages"
cd "$place/packages"
apt-get download "${peers[@]}"
for package in *.deb; do dpkg-deb --extract "$package" "$place"; done
echo "peers are in $place"
