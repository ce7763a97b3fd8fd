//! What comes ahead of a connection's own protocol, each within `timeout/head`: a PROXY header, a TLS handshake, a TLS
//! server name that says which TCP service is meant.
//!
//! ```text
//! accept ─> proxied ─┬─ secure ── handshake ─> serve
//!                    └─ named ── ClientHello ─> Table::named ─┬─ handshake ─> tcp     TLS ends here
//!                                                             └─────────────> tcp     it passes, as it came
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `proxy` | PROXY headers |
//! | `secure` | TLS handshakes; HTTPS |
//! | `named` | TCP services by TLS server name, and those whose TLS ends here |
//! | `on_demand` | handshakes that wait for a certificate, where the keys let them ask for one |
//! | `opening` | the time for all that, and why there is nothing to serve |

mod named;
mod on_demand;
mod opening;
mod proxy;
mod secure;

pub(crate) use named::named;
pub(crate) use proxy::proxied;
pub(crate) use secure::secure;
