#!/bin/sh
# Instructions of one exchange, counted by callgrind: the same on a busy machine as on an idle one. Fails when there are
# more than 3 % more of them than bench/instructions.txt says for this compiler.
#
#   bench/instructions.sh NAME PROGRAM [ARGUMENT...]           compare
#   bench/instructions.sh --accept NAME PROGRAM [ARGUMENT...]  take what is counted as the new figure
#
# The program gets the number of exchanges as its last argument. It is run twice, with so many and with twice as many:
# what it does once, at its start and its end, is in both and counts for nothing.
set -eu

tolerance=3
exchanges=${EXCHANGES:-1000}
figures=$(dirname "$0")/instructions.txt

accept=
if [ "${1-}" = --accept ]; then
    accept=yes
    shift
fi
if [ $# -lt 2 ]; then
    sed -n '5,6s/^# *//p' "$0" >&2
    exit 2
fi
name=$1
shift
command -v valgrind >/dev/null || { echo "valgrind is not installed" >&2; exit 2; }

# Everything that the program runs in user space, all its threads together.
counted() {
    report=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null "$@" 2>&1 >/dev/null) || {
        printf '%s\n' "$report" >&2
        echo "failed under callgrind: $*" >&2
        return 1
    }
    printf '%s\n' "$report" | sed -n 's/^==[0-9]*== Collected : \([0-9]*\)$/\1/p'
}

once=$(counted "$@" "$exchanges")
twice=$(counted "$@" $((2 * exchanges)))
now=$(((twice - once) / exchanges))
compiler=$(rustc --version | cut -d' ' -f2)-$(uname -m)
known=$(awk -v name="$name" -v compiler="$compiler" '$1 == name && $2 == compiler { print $3 }' "$figures")

if [ -n "$accept" ]; then
    awk -v name="$name" -v compiler="$compiler" '$1 != name || $2 != compiler' "$figures" >"$figures.new"
    echo "$name $compiler $now" >>"$figures.new"
    mv "$figures.new" "$figures"
    echo "$name: $now instructions an exchange with $compiler, was ${known:-not known}"
    exit 0
fi
how="bench/instructions.sh --accept $name $*"
if [ -z "$known" ]; then
    echo "$name: $now instructions an exchange; $figures has no figure for $compiler. To take this one: $how" >&2
    exit 1
fi
echo "$name: $now instructions an exchange, $(awk -v now="$now" -v known="$known" \
    'BEGIN { printf "%+.1f", (now / known - 1) * 100 }') % against $known"
if [ $((now * 100)) -gt $((known * (100 + tolerance))) ]; then
    echo "more than $tolerance % above the figure. If what is gained is worth it: $how" >&2
    exit 1
fi
if [ $((now * 100)) -lt $((known * (100 - tolerance))) ]; then
    echo "better by more than $tolerance %. To hold on to that: $how" >&2
fi
