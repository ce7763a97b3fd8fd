//! HTTP/1 on a client's connection: what is kept from request to request, and bodies in its framing. Serves nothing.
//!
//! | module | owns |
//! |---|---|
//! | `client` | a client's connection between its requests |
//! | `body` | bodies between two buffers, from framing to framing |

pub(crate) mod body;
pub(crate) mod client;
