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
//! | `beside` | listings and edits that respect leases |
//! | `follow` | the loop that never gives up |
//! | `watches`, `links` | inotify; what else to watch for a link |
//! | `agenda` | pure: which paths to read again, and when |
//! | `scan`, `files` | reads one path again; reads files as keys |

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
