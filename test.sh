#!/bin/sh
# Everything that must pass before a change lands. Installs what the tests need from Debian, if it is missing.
set -eu
cd "$(dirname "$0")"

say() { printf '== %s\n' "$*" >&2; }

# command:package, for every program that a test starts.
needed="etcd:etcd-server etcdctl:etcd-client haproxy:haproxy nginx:nginx-light wrk:wrk h2load:nghttp2-client
curl:curl python3:python3 node:nodejs openssl:openssl ss:iproute2 taskset:util-linux prlimit:util-linux
dockerd:docker.io docker-compose:docker-compose debootstrap:debootstrap dpkg-shlibdeps:dpkg-dev systemd-analyze:systemd"

# Debian keeps daemons where only root looks.
PATH="$PATH:/usr/sbin:/sbin"
export PATH

missing=
for pair in $needed; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done

install() {
    # The tests start their own servers: none is to run, or to be started at the next boot, because of them.
    say "installing$missing"
    $as_root sh -c '
        policy=/usr/sbin/policy-rc.d
        test -e $policy || { printf "#!/bin/sh\nexit 101\n" >$policy && chmod 755 $policy && trap "rm -f $policy" EXIT; }
        export DEBIAN_FRONTEND=noninteractive
        apt-get install -y --no-install-recommends "$@" || { apt-get update && apt-get install -y --no-install-recommends "$@"; }
    ' sh $missing >&2
}

if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        as_root=sudo
    else
        say "missing:$missing. Install them, or run this as root or with sudo."
        exit 1
    fi
    install
fi

# What tests of packaging could not do here: said at the end, whatever becomes of the rest.
POINTSMAN_TEST_SKIPPED=$(mktemp)
export POINTSMAN_TEST_SKIPPED
building=
trap 'cat "$POINTSMAN_TEST_SKIPPED" >&2; rm -f "$POINTSMAN_TEST_SKIPPED"; [ -z "$building" ] || kill "$building" 2>/dev/null || true' EXIT

# The image's program takes longest to build, much of it on one core: it is built beside all that is no test. Its own test
# builds it again, and so says what went wrong, if anything does.
if command -v dockerd >/dev/null 2>&1; then
    nice -n 19 packaging/binary.sh static >/dev/null 2>&1 &
    building=$!
fi

say "formatting"
cargo fmt --all --check
say "lints"
cargo clippy --workspace --all-targets -- -D warnings
say "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
say "tests"
cargo test --workspace --no-run
[ -z "$building" ] || wait "$building" || true
building=
cargo test --workspace
say "tests, with the HAProxy engine"
# What names its engines itself has run already, and so has what starts none.
POINTSMAN_TEST_ENGINE=haproxy cargo test -p pointsman --test it -- \
    --skip tidy:: --skip control:: --skip engines --skip haproxy --skip commands:: --skip readme:: \
    --skip fleet::twenty --skip register::it_ends --skip register::a_store --skip register::the_key
