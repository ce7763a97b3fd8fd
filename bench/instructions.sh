#!/bin/sh
# Instructions of one exchange through the native engine, counted by callgrind: the same on a busy machine as on an idle
# one. Fails when there are more than 3 % more of them than bench/instructions.txt says for this compiler.
#
#   bench/instructions.sh             compare
#   bench/instructions.sh --accept    take what is counted as the new figures
#
# What is counted are unit tests of the engine that take the number of exchanges from POINTSMAN_EXCHANGES. Each is run
# twice, with so many and with twice as many: what it does once, at its start and its end, is in both and counts for
# nothing. Only the engine's own work counts, not that of the scripted peers.
set -eu

tolerance=3
exchanges=${EXCHANGES:-200}
tests="exchanges chunked_posts cared_for"
engine='pointsman_native::serve::serve::{{closure}}'
cd "$(dirname "$0")/.."
figures=bench/instructions.txt

accept=${1-}
command -v valgrind >/dev/null || { echo "valgrind is not installed" >&2; exit 2; }

program=$(cargo test --release --package pointsman-native --lib --no-run 2>&1 | tee /dev/stderr | sed -n 's/^ *Executable .*(\(.*\))$/\1/p')

counted() {
    report=$(POINTSMAN_EXCHANGES=$2 valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect="$engine" \
        "$program" --exact "tests::instructions::$1" --test-threads 1 2>&1 >/dev/null) || {
        printf '%s\n' "$report" >&2
        echo "failed under callgrind: $1" >&2
        return 1
    }
    printf '%s\n' "$report" | sed -n 's/^==[0-9]*== Collected : \([0-9]*\)$/\1/p'
}

compiler=$(rustc --version | cut -d' ' -f2)-$(uname -m)
worse=
for name in $tests; do
    once=$(counted "$name" "$exchanges")
    twice=$(counted "$name" $((2 * exchanges)))
    now=$(((twice - once) / exchanges))
    known=$(awk -v name="$name" -v compiler="$compiler" '$1 == name && $2 == compiler { print $3 }' "$figures")
    if [ "$now" -le 0 ]; then
        echo "$name: callgrind counted nothing; is the engine still called $engine?" >&2
        exit 1
    elif [ "$accept" = --accept ]; then
        awk -v name="$name" -v compiler="$compiler" '$1 != name || $2 != compiler' "$figures" >"$figures.new"
        echo "$name $compiler $now" >>"$figures.new"
        mv "$figures.new" "$figures"
        echo "$name: $now instructions an exchange with $compiler, was ${known:-not known}"
    elif [ -z "$known" ]; then
        echo "$name: $now instructions an exchange; $figures has no figure for $compiler, nothing to compare" |
            tee -a "${POINTSMAN_TEST_SKIPPED:-/dev/null}" >&2
    else
        echo "$name: $now instructions an exchange, $(awk -v now="$now" -v known="$known" \
            'BEGIN { printf "%+.1f", (now / known - 1) * 100 }') % against $known"
        [ $((now * 100)) -le $((known * (100 + tolerance))) ] || worse="$worse $name"
        [ $((now * 100)) -ge $((known * (100 - tolerance))) ] || echo "$name is better by more than $tolerance %: --accept holds on to that" >&2
    fi
done
if [ -n "$worse" ]; then
    echo "more than $tolerance % above the figure:$worse. If what is gained is worth it: bench/instructions.sh --accept" >&2
    exit 1
fi
