#!/bin/sh
# Builds the program that we ship, with the profile `dist` of Cargo.toml, and prints its path.
#
#   packaging/binary.sh static     for the image: needs no C library
#   packaging/binary.sh            for the package: resolves names with the machine's C library
set -eu
cd "$(dirname "$0")/.."

folder=${CARGO_TARGET_DIR:-target}
set -- ${1:-dynamic}
case $1 in
    static)
        # The default target, named so that the flags apply to the program only, not to build scripts.
        target=$(rustc -vV | sed -n 's/^host: //p')
        folder=$folder/$target
        # Packed relocations save 0.7 MB. The program relocates itself, so no old loader has to understand them.
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
