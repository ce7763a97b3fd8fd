//! The agent: what the containers of this machine want in the store.
//!
//! ```text
//! Docker daemon ──docker::follow──> Containers (containers as facts)
//!                                     └──wanted(containers, &AgentDefaults)──> Wanted by prefix ──> registrar
//!                                                                    └──> complaints ──> log
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `run` | the loop: from views to plans |
//! | `journal` | what there is to log |
//! | `docker` | the daemon, followed |
//! | `container` | what is known of one container |
//! | `wanted` | from containers to what is wanted in the store |
//! | `offer` | what holds for all of them; one instance that one of them offers |
//! | `labels`, `known` | our labels, and which there are |
//! | `kontena` | Kontena's labels and environment |
//! | `address`, `port`, `options`, `name` | an instance's address, port, options and name |
//! | `complaint` | what is wrong with a container |
//! | `moment`, `signal` | times and signals, as Docker writes them |

mod address;
mod complaint;
mod container;
pub mod docker;
mod journal;
mod known;
mod kontena;
mod labels;
mod moment;
mod name;
mod offer;
mod options;
mod port;
mod run;
mod signal;
#[cfg(test)]
mod tests;
mod wanted;

pub use complaint::{Complaint, ComplaintKind};
pub use container::{Container, Health, State};
pub use offer::{AgentDefaults, Offer};
pub use run::run;
pub use wanted::{offers, wanted};
