//! The agent: registers this machine's containers in the store.
//!
//! ```text
//! Docker daemon ──docker::follow──> Containers (containers as facts)
//!                                     └──wanted(containers, &AgentDefaults)──> Wanted by prefix ──> registrar
//!                                                                    └──> complaints ──> log
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `run` | the loop that turns views into plans |
//! | `journal` | the log lines |
//! | `docker` | follows the Docker daemon |
//! | `container` | the facts about one container |
//! | `wanted` | turns containers into wanted keys |
//! | `offer` | the agent's defaults; one instance that a container offers |
//! | `labels`, `known` | our labels; the list of known labels |
//! | `kontena` | Kontena's labels and environment |
//! | `address`, `port`, `options`, `name` | an instance's address, port, options and name |
//! | `complaint` | mistakes on a container |
//! | `moment`, `signal` | Docker's notation of times and signals |

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
