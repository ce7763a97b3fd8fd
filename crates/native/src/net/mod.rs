//! Connections as bytes: what they run over, buffers, deadlines. Knows no protocol and no service.
//!
//! | module | owns |
//! |---|---|
//! | `stream` | a connection, whole or as two halves |
//! | `socket` | one as the kernel has it |
//! | `tls` | one that is encrypted |
//! | `buffer` | buffers from a pool; bytes read and not used yet |
//! | `deadline` | coarse deadlines for thousands of waiting tasks |
//! | `pace` | whether the other side makes progress |
//! | `send` | sending for as long as there is progress |
//! | `watch` | whether a client is still there |
//! | `presented` | the certificate that a client presented |
//! | `peer` | the client at the other end |

pub(crate) mod buffer;
pub(crate) mod deadline;
pub(crate) mod pace;
pub(crate) mod peer;
pub(crate) mod presented;
pub(crate) mod send;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod tls;
pub(crate) mod watch;
