#!/bin/sh
# Builds the program on this machine with cargo, and the image from it. Pulls nothing.
#
#   packaging/docker/build.sh [TAG]      default tag: pointsman
set -eu
cd "$(dirname "$0")/../.."

binary=$(packaging/binary.sh static)
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
# The image must not depend on the builder's umask.
umask 022
install -D -m 755 "$binary" "$context/root/pointsman"
# For etcd over https without --etcd-ca.
bundle=/etc/ssl/certs/ca-certificates.crt
if [ -e "$bundle" ]; then
    install -D -m 644 "$bundle" "$context/root$bundle"
else
    echo "$0: no $bundle on this machine, so the image trusts only the authority of --etcd-ca" >&2
fi
docker build --quiet --file packaging/docker/Dockerfile --target prebuilt --tag "${1:-pointsman}" \
    --build-arg FILES=root/ \
    --build-arg VERSION="$("$binary" version | cut -d' ' -f2)" \
    --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
    "$context"
