#!/bin/sh
# Builds the program to be handed out, and prints where it is. The profile `dist` in Cargo.toml says how.
#
#   packaging/binary.sh static     for the image: needs nothing around it, not even a C library
#   packaging/binary.sh            for the package: looks names up as the machine does, by its own C library
set -eu
cd "$(dirname "$0")/.."

folder=${CARGO_TARGET_DIR:-target}
set -- ${1:-dynamic}
case $1 in
    static)
        # Named though it is the default, so that the flags are for the program only, and not for what builds it.
        target=$(rustc -vV | sed -n 's/^host: //p')
        folder=$folder/$target
        # Packed relocations are 0.7 MB less. The program relocates itself, so there is no old loader to mind.
        RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs"
        export RUSTFLAGS
        set -- --target "$target"
        ;;
    dynamic) set -- ;;
    *)
        echo "usage: $0 [static]" >&2
        exit 2
        ;;
esac
cargo build --locked --package pointsman --profile dist "$@" >&2
printf '%s\n' "$folder/dist/pointsman"
