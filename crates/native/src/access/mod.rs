//! The access log: what is noted of a request while it is served, and the line that it becomes. Writes no file; lines go
//! page by page to the threads that do.
//!
//! ```text
//! head ─> note ─> Noted ─(moments, bytes)─> Record::finish ─> Entry ─> line ─> page ─> LogQueue
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `noted` | what is noted of one request |
//! | `ending` | how a request ended, in HAProxy's letters |
//! | `entry` | everything that a line can say |
//! | `line` | the formats, and what each needs of a head |
//! | `httplog`, `apache`, `json`, `template` | one format each |
//! | `date`, `number`, `escape` | dates; numbers and addresses; bytes from clients |
//! | `page` | a worker's unwritten lines |

mod apache;
mod date;
mod ending;
mod entry;
mod escape;
mod httplog;
mod json;
mod line;
mod noted;
mod number;
mod page;
mod template;
#[cfg(test)]
mod tests;

pub(crate) use ending::Severed;
pub(crate) use entry::Open;
pub use line::LineFormat;
pub(crate) use noted::Noted;
pub use page::AccessLog;
pub(crate) use page::{Access, Ended};
