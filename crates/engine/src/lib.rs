//! What the engines and the control loop share: how an engine answers a table, how the program ends, counters and
//! health that survive every table, and listening sockets. Knows no engine, no store and no settings.
//!
//! | module | owns |
//! |---|---|
//! | `access` | the access log's way from workers to the threads that write it |
//! | `cert_wishes` | names that handshakes wait for, on their way to whoever has certificates issued |
//! | `exemplars` | the traces that metrics name |
//! | `inherited` | listening sockets that another program gave us |
//! | `live` | counters and health by service, instance and address; their sum at one moment |
//! | `seldom` | the rate limit of a log line that many events would write |
//! | `sockets` | listening sockets, one per worker on the same address |
//! | `spans` | spans of traces on their way from workers to the task that sends them |
//! | `sys` | calls that no library wraps, and the allocator |
//! | `tickets` | the secrets of TLS session tickets |

pub mod access;
pub mod cert_wishes;
pub mod exemplars;
pub mod inherited;
pub mod live;
pub mod seldom;
pub mod sockets;
pub mod spans;
pub mod sys;
pub mod tickets;

use std::collections::BTreeSet;

use pointsman_table::{Bind, Problem, Table};

/// An engine's acknowledgement of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The table's generation, because several tables may have one revision.
    pub generation: u64,
    /// The table's revision: what users see.
    pub revision: u64,
    /// Problems that the engine found, such as a port in use.
    pub problems: Vec<Problem>,
    /// The opened addresses of TCP services, whichever table asked for them.
    pub bound: BTreeSet<Bind>,
}

impl Applied {
    /// `table` is in use, except for these problems.
    pub fn new(table: &Table, problems: Vec<Problem>, bound: BTreeSet<Bind>) -> Self {
        Self { generation: table.generation(), revision: table.revision(), problems, bound }
    }
}

/// Whether the program serves, drains or ends. Everything that serves watches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Serve,
    /// Taking no new connections, finishing open work, within `config/timeout/drain`.
    Drain,
    /// Ending at once.
    Halt,
}
