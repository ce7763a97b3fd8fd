//! How a request ended, in HAProxy's letters (its Configuration Manual 2.6, §8.5). Decides nothing.

use crate::fault::Fault;

/// How far a request had come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Passed {
    /// Its head, or what it is for, was not known.
    #[default]
    Asking,
    /// It waited for a place at an instance.
    Queue,
    /// A connection to an instance was being opened.
    Connect,
    /// The instance had it.
    Answer,
    /// The response was on its way.
    Data,
}

impl Passed {
    /// The second letter.
    pub(super) fn letter(self) -> u8 {
        match self {
            Self::Asking => b'R',
            Self::Queue => b'Q',
            Self::Connect => b'C',
            Self::Answer => b'H',
            Self::Data => b'D',
        }
    }
}

/// Why a relay of bytes was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severed {
    /// The client broke the connection.
    Client,
    /// The instance did.
    Instance,
    /// Nothing moved for too long.
    Idle,
    /// The instance was removed, and its time to finish was over.
    Removed,
}

impl Severed {
    /// The first letter.
    pub(super) fn letter(self) -> u8 {
        match self {
            Self::Client => b'C',
            Self::Instance => b'S',
            Self::Idle => b's',
            Self::Removed => b'K',
        }
    }
}

/// The letters of a fault: who ended it, and in which state; `passed`: how far the request had come.
pub(super) fn letters(fault: Fault, passed: Passed) -> [u8; 2] {
    let at = passed.letter();
    match fault {
        // The proxy refused it.
        Fault::BadRequest(_)
        | Fault::TargetTooLong
        | Fault::Loop
        | Fault::TooManyConnections
        | Fault::TlsHandshake
        | Fault::BadProxyHeader
        | Fault::HelloTooLong
        | Fault::PlainOnTls
        | Fault::ClientCertificate
        | Fault::Misdirected
        | Fault::Denied
        | Fault::RateLimited
        | Fault::Maintenance
        | Fault::Unauthorized
        | Fault::PasswordsBusy
        | Fault::AuthUnreachable
        | Fault::AuthBadAnswer
        | Fault::Http2 => *b"PR",
        Fault::BadRequestBody(_) | Fault::BodyTooLarge | Fault::CopyDropped => [b'P', at],
        Fault::QueueFull | Fault::Shed => *b"PQ",
        Fault::BadResponse(_) | Fault::UnaskedSwitch | Fault::NoWebsocket => *b"PH",
        // The client left, or was late.
        Fault::ClientGone | Fault::GaveWay => [b'C', at],
        Fault::HeadTimeout | Fault::TlsTimeout | Fault::ProxyTimeout | Fault::HelloTimeout => *b"cR",
        Fault::BodyTimeout => [b'c', at],
        // The instance refused it, broke it off, or was late.
        Fault::NoRoute
        | Fault::UnknownServerName
        | Fault::NoInstance
        | Fault::ConnectRefused
        | Fault::InstanceTls
        | Fault::InstanceName => *b"SC",
        Fault::NoAnswer | Fault::StreamRefused => *b"SH",
        Fault::BadResponseBody => *b"SD",
        Fault::Full | Fault::QueueTimeout => *b"sQ",
        Fault::ConnectTimeout => *b"sC",
        Fault::ServerTimeout | Fault::RequestTimeout => [b's', at],
        // Ours.
        Fault::Exhausted => *b"RC",
        Fault::Removed => [b'K', at],
    }
}
