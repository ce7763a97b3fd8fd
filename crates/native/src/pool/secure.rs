//! TLS on a new connection to an instance: which server name, and in plain words why a handshake failed. Decides nothing
//! about what is verified: `tls::Outbound` does.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, Error};

use super::via::{Endpoint, TlsId, TlsName};
use crate::fault::Fault;
use crate::net::socket::Bare;
use crate::net::stream::Stream;
use crate::net::tls::Tls;

/// An instance that refuses the version of HTTP in the handshake (RFC 7301 §3.2), or takes none.
const OTHER_HTTP: &str = "it does not agree to the version of HTTP that is asked for (ALPN); see protocol";

/// Why there is no TLS connection to an instance.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(crate) struct TlsFailure {
    pub(crate) fault: Fault,
    why: String,
}

impl TlsFailure {
    /// The instance did not agree to HTTP/2 in the handshake.
    pub(crate) fn without_http2() -> Self {
        Self { fault: Fault::InstanceTls, why: OTHER_HTTP.to_owned() }
    }
}

impl From<TlsFailure> for io::Error {
    fn from(failure: TlsFailure) -> Self {
        Self::other(failure)
    }
}

/// Does the handshake. `host`: that of the request that the connection is opened for.
///
/// # Errors
/// [`TlsFailure`].
pub(crate) async fn secure(bare: Bare, endpoint: &Endpoint, tls: &TlsId, host: Option<&str>) -> io::Result<Stream> {
    let Some(config) = tls.config.clone() else {
        let why = "its TLS cannot be set up: see the problems of its service".to_owned();
        return Err(TlsFailure { fault: Fault::InstanceTls, why }.into());
    };
    let host = host.filter(|_| tls.name == TlsName::OfRequest);
    let name = server_name(&tls.name, host, endpoint);
    let expected = name.to_str().into_owned();
    match Tls::connect(bare, config, name, host).await {
        Ok(tls) => Ok(Stream::Tls(Box::new(tls))),
        Err(error) => Err(failure(&error, &expected, host.is_some()).into()),
    }
}

/// The server name to ask for and to expect.
fn server_name(name: &TlsName, host: Option<&str>, endpoint: &Endpoint) -> ServerName<'static> {
    let address = match endpoint {
        Endpoint::Socket(address) => address.ip().to_canonical(),
        // No certificate is for it.
        Endpoint::Unix(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let of_host = |host: &str| {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        ServerName::try_from(host.to_owned()).ok()
    };
    match name {
        TlsName::Fixed(name) => name.clone(),
        TlsName::OfRequest => host.and_then(of_host).unwrap_or_else(|| ServerName::from(address)),
        TlsName::Address => ServerName::from(address),
    }
}

/// What a failed handshake shows. `is_of_host`: the client chose the server name.
fn failure(error: &io::Error, expected: &str, is_of_host: bool) -> TlsFailure {
    // A server may end it without a word for a name that it does not have.
    let may_be_name = tls_error(error).is_none_or(may_be_about_name);
    let fault = if is_of_host && may_be_name { Fault::InstanceName } else { Fault::InstanceTls };
    let why = match tls_error(error) {
        Some(error) => reason(error, expected),
        None => format!("it ended the TLS handshake: {error}"),
    };
    TlsFailure { fault, why }
}

/// The refusal of a handshake that is over for us, if this error is one.
pub(crate) fn late_refusal(error: &io::Error) -> Option<TlsFailure> {
    match tls_error(error)? {
        Error::AlertReceived(alert) => Some(TlsFailure { fault: Fault::InstanceTls, why: refusal(*alert) }),
        _ => None,
    }
}

/// What rustls says, if the error is from there.
fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Whether another server name could have helped: for one that they do not have, many servers show a certificate of their own
/// making.
fn may_be_about_name(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(_) | Error::AlertReceived(_))
}

fn is_wrong_name(error: &CertificateError) -> bool {
    matches!(error, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
}

fn reason(error: &Error, expected: &str) -> String {
    use CertificateError::{BadSignature, Expired, ExpiredContext, NotValidYet, NotValidYetContext, UnknownIssuer};
    match error {
        Error::InvalidCertificate(Expired | ExpiredContext { .. }) => "its certificate has expired".into(),
        Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => "its certificate is not valid yet".into(),
        // The second: an authority of the same name.
        Error::InvalidCertificate(UnknownIssuer | BadSignature) => {
            // Of a URL in `forward_auth`, that is `forward_auth_ca`.
            "its certificate is of no authority that is trusted; see tls_ca or forward_auth_ca".into()
        }
        Error::InvalidCertificate(error) if is_wrong_name(error) => format!("its certificate is not for {expected}"),
        Error::InvalidCertificate(error) => format!("its certificate is refused: {error}"),
        Error::AlertReceived(alert) => refusal(*alert),
        Error::InvalidMessage(_) => "it does not speak TLS".into(),
        error => format!("its TLS is refused: {error}"),
    }
}

/// An alert of the instance (RFC 8446 §6.2).
fn refusal(alert: AlertDescription) -> String {
    use AlertDescription::{
        BadCertificate, CertificateExpired, CertificateRequired, CertificateUnknown, NoApplicationProtocol, UnknownCA,
        UnrecognisedName,
    };
    match alert {
        CertificateRequired => "it asks for a certificate; set tls_cert".into(),
        BadCertificate | CertificateExpired | CertificateUnknown | UnknownCA => {
            format!("it refuses our certificate ({alert:?}); see tls_cert")
        }
        NoApplicationProtocol => OTHER_HTTP.into(),
        UnrecognisedName => "it does not know the server name; see tls_server_name".into(),
        alert => format!("it refuses the TLS handshake: {alert:?}"),
    }
}
