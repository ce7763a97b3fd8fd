#!/bin/sh
# Builds the Debian package into a folder, and prints its path.
#
#   packaging/deb/build.sh [--binary FILE] [--version VERSION] [--fast] [FOLDER]
#
# Builds FILE unless it is given. --fast compresses less. Needs dpkg-dev.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)

binary= version= pack=xz
while [ $# -gt 0 ]; do
    case $1 in
        --binary) binary=$(realpath "$2") && shift 2 ;;
        --version) version=$2 && shift 2 ;;
        --fast) pack=gzip && shift ;;
        -*) echo "$0: unknown option $1" >&2 && exit 2 ;;
        *) break ;;
    esac
done
folder=$(realpath "${1:-$root/target}")
cd "$root"

[ -n "$binary" ] || binary=$(realpath "$(packaging/binary.sh)")
[ -n "$version" ] || version=$("$binary" version | cut -d' ' -f2)
architecture=$(dpkg --print-architecture)
work=$(mktemp -d)
draft=
trap 'rm -rf "$work" "$draft"' EXIT
tree=$work/tree
docs=$tree/usr/share/doc/pointsman

# The package must not depend on the builder's umask.
umask 022
install -D -m 755 "$binary" "$tree/usr/bin/pointsman"
strip --strip-unneeded --remove-section=.comment "$tree/usr/bin/pointsman"
install -D -m 644 -t "$tree/usr/lib/systemd/system" packaging/systemd/*.service
# It may hold passwords.
install -D -m 640 packaging/default/pointsman "$tree/etc/default/pointsman"
# What the program itself knows of its commands.
manual=$tree/usr/share/man/man1
mkdir -p "$manual"
"$binary" man "$manual"
gzip -9n "$manual"/*.1
completes() { mkdir -p "${2%/*}" && "$binary" completions "$1" >"$2"; }
completes bash "$tree/usr/share/bash-completion/completions/pointsman"
completes zsh "$tree/usr/share/zsh/vendor-completions/_pointsman"
completes fish "$tree/usr/share/fish/vendor_completions.d/pointsman.fish"
# As in the repository, so that the pages' links lead somewhere.
install -D -m 644 -t "$docs" ./*.md LICENSE
install -D -m 644 -t "$docs/docs" docs/*.md docs/*.png
install -D -m 644 -t "$docs/docs/decisions" docs/decisions/*.md
install -D -m 644 -t "$docs/docs/charts" docs/charts/*.svg
install -D -m 644 -t "$docs/bench/configs" bench/configs/*
install -D -m 644 -t "$docs/packaging/prometheus" packaging/prometheus/*.yml
install -D -m 644 -t "$docs/packaging/grafana" packaging/grafana/*.json
install -m 644 packaging/deb/copyright "$docs/copyright"

# The C library that the binary needs.
mkdir "$work/debian"
printf 'Source: pointsman\n\nPackage: pointsman\nArchitecture: any\n' >"$work/debian/control"
libraries=$(cd "$work" && dpkg-shlibdeps -O -e"$tree/usr/bin/pointsman" | sed -n 's/^shlibs:Depends=//p')

mkdir "$tree/DEBIAN"
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@LIBRARIES@/$libraries/" \
    -e "s/@SIZE@/$(du -sk "$tree" | cut -f1)/" packaging/deb/control >"$tree/DEBIAN/control"
echo /etc/default/pointsman >"$tree/DEBIAN/conffiles"
install -m 755 -t "$tree/DEBIAN" packaging/deb/postinst packaging/deb/prerm packaging/deb/postrm
(cd "$tree" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"

package=$folder/pointsman_${version}_$architecture.deb
# Two builds at once, or a reader of the last one, never see half a package.
draft=$package.$$
dpkg-deb --root-owner-group -Z"$pack" --build "$tree" "$draft" >&2
mv "$draft" "$package"
printf '%s\n' "$package"
