//! A folder as a store: a key is a file, its value the content less one final newline. Read and
//! edited at once: files are small.
//!
//! ```text
//! inotify -> which paths, and which of them are still being written -> read again -> what differs -> Changes
//!   queue overflow, the audit, a folder that came back: read everything again, and tell what differs
//! ```
//!
//! | file | owns |
//! |---|---|
//! | `store` | single files, read and edited |
//! | `lease` | keys that live as long as their owner |
//! | `beside` | listings and edits that mind leases |
//! | `follow` | the loop that never gives up |
//! | `watches` | inotify |
//! | `agenda` | pure: what is to be read again, and when |
//! | `scan`, `files` | what a path, and a file, are found to be |

mod agenda;
mod beside;
mod files;
mod follow;
mod lease;
mod scan;
mod store;
mod watches;

pub(super) use lease::DirectoryLease;
pub use store::Directory;
