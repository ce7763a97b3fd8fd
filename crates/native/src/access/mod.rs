//! The access log and traces: what is noted of a request while it is served, the line and the spans that it becomes. Writes
//! no file and sends nothing; lines and spans go page by page to those that do.
//!
//! ```text
//! head ─> note ─> Noted ─(moments, bytes)─> Record::finish ─> Entry ─┬─> line ─> page ─> LogQueue
//!                                                                    └─> spans ───────> SpanQueue
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
//! | `page` | a worker's unwritten lines, and spans that were not passed on |
//! | `parent` | `traceparent` and `tracestate` |
//! | `trace` | whether a request is sampled; the attempts of one that is |
//! | `spans` | the spans of a request that ended |

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
mod parent;
mod spans;
mod template;
#[cfg(test)]
mod tests;
mod trace;

pub(crate) use ending::Severed;
pub(crate) use entry::Open;
pub use line::LineFormat;
pub(crate) use noted::{Noted, REQUEST_ID, protocol};
pub(crate) use page::{Access, Ended};
pub use page::{AccessLog, Observed, TraceSettings};
pub(crate) use parent::{TRACE_PARENT, TRACE_STATE, TraceParent, rename_span};
pub(crate) use trace::Course;
