//! A folder as a store: a file is a key, its content without the final newline is the value.
//!
//! ```text
//! inotify -> changed paths, except files still being written -> read again -> differences -> Changes
//!   queue overflow, the audit, a folder that returned: read everything again -> differences -> Changes
//! ```
//!
//! | file | owns |
//! |---|---|
//! | `store` | single files, read and edited |
//! | `lease` | keys that live as long as their owner |
//! | `beside` | listings and edits that mind leases |
//! | `follow` | the loop that never gives up |
//! | `watches`, `links` | inotify; what else to watch for a link |
//! | `agenda` | pure: what is to be read again, and when |
//! | `scan`, `files` | what a path, and a file, are found to be |

mod agenda;
mod beside;
mod files;
mod follow;
mod lease;
mod links;
mod scan;
mod store;
mod watches;

pub use files::Unreadable;
pub(super) use lease::DirectoryLease;
pub use store::Directory;
