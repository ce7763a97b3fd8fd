//! Pointsman: an HTTP and TCP load balancer that configures itself from etcd.
//!
//! | module | owns |
//! |---|---|
//! | `program` | from the command line to the exit code |
//! | `settings` | flags, environment, file: parsed once into what the rest takes |
//! | `commands` | the command line, and one file a command |
//! | `control` | the one loop from a store's updates to a published table |
//! | `fleet` | what the balancers of one prefix say of themselves, and waiting for all of them |
//! | `admin` | health, metrics and the table over HTTP, never on the data path |
//! | `register` | an instance in the store for as long as a command runs |
//! | `agent` | what the containers of this machine want in the store |
//! | `registrar` | keys kept in the store under a lease |
//! | `logging` | where the log goes and what is in it |
//! | `notify` | what the service manager is told |
//! | `sys` | what we ask of the operating system beyond files and sockets |

pub mod admin;
pub mod agent;
pub mod commands;
pub mod control;
pub mod fleet;
pub mod logging;
pub mod notify;
pub mod program;
pub mod register;
pub mod registrar;
pub mod settings;
pub mod sys;
