//! Measures Pointsman against its peers. Every figure is a ratio or has a bound, measured in one run on one machine.
//!
//! | module | owns |
//! |---|---|
//! | `options` | the command line |
//! | `http` | CPU per request through the proxies, by number of connections |
//! | `features` | the same with and without features; memory for rates, CPU for checks |
//! | `logins` | another service's answers beside guessed passwords |
//! | `scale` | the same with 10 and 10,000 services, and memory |
//! | `edge` | TLS and HTTP/2 from clients: handshakes, requests, memory of connections, 10,000 certificates |
//! | `table` | lookups and compiling, in this process |
//! | `hostile` | the dearest lookups that accepted expressions allow, in this process |
//! | `pick` | picking an instance, in this process |
//! | `haproxy` | HAProxy driven by Pointsman, compared with confd: CPU, changes, reloads |
//! | `burst` | 200 services written back to back: how soon each of them answers |
//! | `fleet` | many balancers on one etcd: their cost to etcd, and how soon all of them serve a change |
//! | `held` | memory of connections that wait |
//! | `restart` | the gap of an upgrade, and the time until a start serves |
//! | `wait` | responses that an instance writes in two pieces |
//! | `against` | this program against another build of it |
//! | `compare` | Pointsman beside HAProxy, nginx, Envoy, Traefik and Caddy; writes docs/compare.md |
//! | `peers` | the proxies, each started alone on one core |
//! | `admin` | pages over HTTP, such as Pointsman's own |
//! | `drive` | runs wrk, and measures the cost of a process |
//! | `relay`, `responder`, `sys` | a lower bound for proxies, and a backend that is never the bottleneck |
//! | `collector` | a collector of spans that keeps nothing |
//! | `talk`, `probe` | one kept connection: a request, then its answer; which backend answers |
//! | `store` | stores to write keys to |
//! | `report` | figures, targets, verdicts |

mod admin;
mod against;
mod burst;
mod collector;
mod compare;
mod drive;
mod edge;
mod features;
mod fleet;
mod haproxy;
mod held;
mod hostile;
mod http;
mod logins;
mod options;
mod peers;
mod pick;
mod probe;
mod relay;
mod report;
mod responder;
mod restart;
mod scale;
mod store;
mod sys;
mod table;
mod talk;
mod wait;

use std::process::ExitCode;

use options::{Command, Options};
use report::Report;

fn main() -> ExitCode {
    match Options::from_arguments(std::env::args().skip(1)) {
        Ok((Command::Relay { listen, to }, _)) => relay::run(listen, to),
        Ok((Command::Responder { listen, name }, _)) => responder::run(listen, name),
        Ok((Command::Shake(shaking), _)) => return edge::handshakes::run(&shaking),
        Ok((Command::Measure(groups), options)) => return measure(&groups, &options),
        Err(message) => {
            eprintln!("{message}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn measure(groups: &[options::Group], options: &Options) -> ExitCode {
    let mut report = Report::default();
    for group in groups {
        match group {
            options::Group::Http => http::measure(options, &mut report),
            options::Group::Features => features::measure(options, &mut report),
            options::Group::Edge => edge::measure(options, &mut report),
            options::Group::Hold => edge::hold::measure(options, &mut report),
            options::Group::Scale => scale::measure(options, &mut report),
            options::Group::Memory => scale::measure_memory(options, &mut report),
            options::Group::Table => {
                table::measure(options, &mut report);
                hostile::measure(options, &mut report);
            }
            options::Group::Pick => pick::measure(options, &mut report),
            options::Group::Haproxy => haproxy::measure(options, &mut report),
            options::Group::Burst => burst::measure(options, &mut report),
            options::Group::Fleet => fleet::measure(options, &mut report),
            options::Group::Held => held::measure(options, &mut report),
            options::Group::Restart => restart::measure(options, &mut report),
            options::Group::Wait => wait::measure(options, &mut report),
            options::Group::Peers => compare::measure(options, &mut report),
            options::Group::Against => against::measure(options, &mut report),
        }
    }
    report.finish(options.json.as_deref())
}
