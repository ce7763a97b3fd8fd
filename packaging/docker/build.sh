#!/bin/sh
# Builds the program here, with cargo, and the image from it. Pulls nothing.
#
#   packaging/docker/build.sh [TAG]      pointsman, if none is given
set -eu
cd "$(dirname "$0")/../.."

binary=$(packaging/binary.sh static)
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
# The umask of whoever builds it is not to be seen in it.
umask 022
install -D -m 755 "$binary" "$context/root/pointsman"
# For etcd by https without --etcd-ca.
bundle=/etc/ssl/certs/ca-certificates.crt
if [ -e "$bundle" ]; then
    install -D -m 644 "$bundle" "$context/root$bundle"
else
    echo "$0: no $bundle here, so the image trusts no authority but that of --etcd-ca" >&2
fi
docker build --quiet --file packaging/docker/Dockerfile --target prebuilt --tag "${1:-pointsman}" \
    --build-arg FILES=root/ \
    --build-arg VERSION="$("$binary" version | cut -d' ' -f2)" \
    --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
    "$context"
