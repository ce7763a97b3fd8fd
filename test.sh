#!/bin/sh
# Everything that must pass before a change lands. Installs what the tests need from Debian, if it is missing.
# POINTSMAN_LONG=1 runs the long forms; docs/testing.md says what these are.
set -eu
cd "$(dirname "$0")"

say() { printf '== %s\n' "$*" >&2; }

# command:package, for every program that a test starts.
needed="etcd:etcd-server etcdctl:etcd-client haproxy:haproxy nginx:nginx-light wrk:wrk h2load:nghttp2-client pebble:pebble knotd:knot
chromium:chromium curl:curl goaccess:goaccess git:git python3:python3 node:nodejs openssl:openssl ss:iproute2 valgrind:valgrind taskset:util-linux prlimit:util-linux
dockerd:docker.io docker-compose:docker-compose debootstrap:debootstrap flock:util-linux dpkg-shlibdeps:dpkg-dev systemd-analyze:systemd
faketime:faketime hatop:hatop prometheus-haproxy-exporter:prometheus-haproxy-exporter promtool:prometheus"

# Debian keeps daemons where only root looks.
PATH="$PATH:/usr/sbin:/sbin"
export PATH

missing=
python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
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

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# What tests of packaging could not do here: said at the end, whatever becomes of the rest.
POINTSMAN_TEST_SKIPPED=$work/skipped
export POINTSMAN_TEST_SKIPPED
: >"$POINTSMAN_TEST_SKIPPED"
failed=$work/failed
: >"$failed"
# Tests wait more than they compute, so more of them run at once than there are cores.
cores=$(nproc)
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$((cores > 6 ? cores : 6))}"

# Runs a step, whatever became of those before it. What failed is kept: the step, its tests, or the compiler's first words.
step() {
    name=$1
    shift
    say "$name"
    began=$(date +%s)
    { "$@" 2>&1 && echo 0 >"$work/status" || echo $? >"$work/status"; } | tee "$work/log"
    grep '^test result: ' "$work/log" | grep -v ' 0 passed; 0 failed' >>"$work/results" || true
    echo "$(($(date +%s) - began)) s: $name" >>"$work/results"
    [ "$(cat "$work/status")" = 0 ] && return
    echo "$name" >>"$failed"
    sed -n 's/^test \(.*\) \.\.\. FAILED$/    \1/p' "$work/log" | head -n 30 >>"$failed"
    sed -n 's/^error/    error/p' "$work/log" | head -n 5 >>"$failed"
}

# The order is that of what can be used again: documentation needs what was checked for lints, tests what was built for
# tests. Everywhere the whole workspace, and its tests too, so that no dependency is built again with other features.
step "Python" crates/pointsman/tests/venv
step "formatting" cargo fmt --all --check
step "lints" cargo clippy --workspace --all-targets -- -D warnings
step "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet --lib --bins --examples
step "tests" cargo test --workspace --no-fail-fast
step "dependencies" .ci/dependencies
step "instructions of an exchange" bench/instructions.sh
# What names its engines itself has run already, and so has what starts none.
step "tests, with the HAProxy engine" env POINTSMAN_TEST_ENGINE=haproxy cargo test --workspace --no-fail-fast --test it -- \
    --skip tidy:: --skip control:: --skip engines --skip haproxy --skip commands:: --skip readme:: --skip help:: \
    --skip fleet::twenty --skip register::it_ends --skip register::a_store --skip register::the_key

cat "$work/results" 2>/dev/null || true
cat "$POINTSMAN_TEST_SKIPPED" >&2
if [ -s "$failed" ]; then
    say "FAILED:"
    cat "$failed" >&2
    exit 1
fi
say "all of it passed"
