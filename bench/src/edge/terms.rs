//! What all proxies are measured with. Measures nothing.

/// The suite of all connections: the first choice of each proxy.
pub(super) const SUITE: &str = "TLS_AES_256_GCM_SHA384";
/// The host whose certificate has an RSA key.
pub(super) const RSA_HOST: &str = "rsa.test";
