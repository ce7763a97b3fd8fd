//! The dearest lookups that accepted `url_reg` expressions allow, in this process. Sends nothing.

use std::hint::black_box;
use std::sync::Arc;

use pointsman_table::{Table, compile};

use crate::options::Options;
use crate::report::{Report, median};
use crate::table::{Keys, key_set, limits, millis, service, table};

/// Longest target that either engine takes, in bytes.
const LONGEST: usize = 32 * 1024;
/// What the caches hold is replaced by so much before each lookup, in bytes.
const CACHES: usize = 64 * 1024 * 1024;

/// Measures the dearest lookup of each set: no target, however long, may cost more than 5 ms.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    let widest = widest();
    let sets: [(&str, usize, String); 4] = [
        ("30 of the largest automata", 30, format!("a[ab]{{{widest}}}")),
        ("1,000 of the largest automata", 1000, format!("a[ab]{{{widest}}}")),
        ("1,000 url_reg without literals", 1000, "[a-c][ab]*".into()),
        ("1,000 url_reg whose literals are found", 1000, "ab[ab]{4}".into()),
    ];
    for (name, count, start) in sets {
        let services: Vec<_> = (0..count).map(|n| service(n, "url_reg", &(start.clone() + &ending(n)))).collect();
        let table = table(&services);
        report.hold(format!("dearest lookup in {name}"), dearest(options, &table), "ms", 5.0);
    }
}

/// One of 1,000 endings that no target of the bench has.
fn ending(number: usize) -> String {
    let letter = char::from(b'c' + (number / 10 % 10) as u8);
    format!("[0-{}][{letter}-z][0-{}]", number % 10, number / 100)
}

/// How often `[ab]` may be repeated.
fn widest() -> usize {
    let accepted = |count: usize| {
        let keys: Keys = service(0, "url_reg", &(format!("a[ab]{{{count}}}") + &ending(0)));
        compile(&key_set(&[keys]), None, &limits()).problems.is_empty()
    };
    (1..30).take_while(|&count| accepted(count)).last().unwrap_or(1)
}

/// Milliseconds of the dearest lookup over targets of all lengths, with nothing in the caches.
fn dearest(options: &Options, table: &Arc<Table>) -> f64 {
    let lengths = (5..).map(|power| 1 << power).take_while(|&length| length <= LONGEST);
    let target = target();
    let once = |length: usize| {
        black_box(vec![1u8; CACHES].iter().map(|&byte| usize::from(byte)).sum::<usize>());
        millis(|| black_box(table.route("any.test", &target[..length]))).1
    };
    let costs = lengths.map(|length| median((0..options.rounds.max(3)).map(|_| once(length)).collect()));
    costs.fold(0.0, f64::max)
}

/// A target of `a` and `b` in an order that visits all states of an automaton.
fn target() -> String {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut letter = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if state & 1 == 0 { 'a' } else { 'b' }
    };
    std::iter::once('/').chain((1..LONGEST).map(&mut letter)).collect()
}
