//! Who may come in, beyond networks and certificates: `basic_auth_secrets`, and `forward_auth`.

mod asked;
mod asked_http2;
mod asked_tls;
mod passwords;
