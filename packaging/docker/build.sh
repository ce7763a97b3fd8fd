#!/bin/sh
# Builds the program here, with cargo, and the image from it. Pulls nothing.
#
#   packaging/docker/build.sh [TAG]      pointsman, if none is given
set -eu
cd "$(dirname "$0")/../.."

binary=$(packaging/binary.sh static)
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "$binary" "$context/pointsman"
# For etcd by https without --etcd-ca.
bundle=/etc/ssl/certs/ca-certificates.crt
if [ -e "$bundle" ]; then
    cp "$bundle" "$context"
else
    echo "$0: no $bundle here, so the image trusts no authority but that of --etcd-ca" >&2
    : >"$context/ca-certificates.crt"
fi
chmod 644 "$context/ca-certificates.crt"
docker build --quiet --file packaging/docker/Dockerfile --target prebuilt --tag "${1:-pointsman}" \
    --build-arg VERSION="$("$binary" version | cut -d' ' -f2)" \
    --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
    "$context"
