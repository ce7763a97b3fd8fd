//! Checks whether the command is ready: an HTTP response, or an accepted connection. Checks once; does not decide how
//! often.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Uri;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Deadline for one check.
const ANSWER: Duration = Duration::from_secs(2);
/// A check that takes longer is logged.
const SLOW: Duration = Duration::from_millis(600);

/// The kind of check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// None: the command is ready as soon as it runs.
    None,
    /// A TCP connection is accepted: host and port.
    Tcp(String, u16),
    /// A GET of this path gets 2xx or 3xx: host, port, path.
    Http(String, u16, String),
}

impl Check {
    /// Parses `--check`: `none`, `tcp`, a path, `tcp://HOST:PORT` or `http://HOST[:PORT]/PATH`. Without the flag, the
    /// check is a TCP connection if a port is known. Missing parts come from the instance's own address.
    ///
    /// # Errors
    /// The text is none of these, or the port is missing.
    pub fn parse(text: Option<&str>, host: &str, port: Option<u16>) -> Result<Self, String> {
        let need = || port.ok_or_else(|| "--check: this needs --port, or a URL with a port".to_owned());
        let host = host.to_owned();
        match text {
            None => Ok(port.map_or(Self::None, |port| Self::Tcp(host, port))),
            Some("none") => Ok(Self::None),
            Some("tcp") => Ok(Self::Tcp(host, need()?)),
            Some(path) if path.starts_with('/') => Ok(Self::Http(host, need()?, path.to_owned())),
            Some(url) => Self::url(url).ok_or_else(|| {
                format!(
                    "--check: {url:?} is not a check; write http://HOST:PORT/PATH, /PATH, tcp://HOST:PORT, tcp or none"
                )
            }),
        }
    }

    fn url(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let host = uri.host().filter(|host| !host.is_empty())?.trim_matches(['[', ']']).to_owned();
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        match (uri.scheme_str()?, uri.port_u16()) {
            ("http", port) => Some(Self::Http(host, port.unwrap_or(80), path)),
            ("tcp", Some(port)) if matches!(&*path, "" | "/") => Some(Self::Tcp(host, port)),
            _ => None,
        }
    }

    /// Checks once, and calls `slow` if that takes a while.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_patiently(&self, slow: impl FnOnce()) -> anyhow::Result<()> {
        let mut asked = pin!(self.ask());
        match timeout(SLOW, &mut asked).await {
            Ok(outcome) => outcome,
            Err(_) => {
                slow();
                asked.await
            }
        }
    }

    /// Checks once.
    ///
    /// # Errors
    /// The command is not ready; the error tells why.
    pub async fn ask(&self) -> anyhow::Result<()> {
        let asked = async {
            match self {
                Self::None => Ok(()),
                Self::Tcp(host, port) => {
                    TcpStream::connect((host.as_str(), *port)).await.map(drop).context("connecting")
                }
                Self::Http(host, port, path) => get(host, *port, path).await,
            }
        };
        timeout(ANSWER, asked).await.with_context(|| format!("no answer within {ANSWER:?}"))?
    }
}

async fn get(host: &str, port: u16, path: &str) -> anyhow::Result<()> {
    let stream = TcpStream::connect((host, port)).await.context("connecting")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = http::Request::get(path).header("Host", host).header("Connection", "close");
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await;
    connection.abort();
    let status = response?.status();
    if !(status.is_success() || status.is_redirection()) {
        bail!("it answers with status {status}");
    }
    Ok(())
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Tcp(host, port) => write!(f, "tcp://{host}:{port}"),
            Self::Http(host, port, path) => write!(f, "http://{host}:{port}{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks() {
        for (text, port, expected) in [
            (None, None, "none"),
            (None, Some(80), "tcp://h:80"),
            (Some("none"), Some(80), "none"),
            (Some("tcp"), Some(80), "tcp://h:80"),
            (Some("/up?a=b"), Some(81), "http://h:81/up?a=b"),
            (Some("http://127.0.0.1:9/up"), None, "http://127.0.0.1:9/up"),
            (Some("http://x"), None, "http://x:80/"),
            (Some("tcp://x:7"), None, "tcp://x:7"),
        ] {
            assert_eq!(Check::parse(text, "h", port).unwrap().to_string(), expected, "{text:?}");
        }
        for (text, port) in
            [("tcp", None), ("/up", None), ("https://x/", Some(1)), ("tcp://x", Some(1)), ("up", Some(1))]
        {
            assert!(Check::parse(Some(text), "h", port).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn asks() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let host = || "127.0.0.1".to_owned();
        Check::Tcp(host(), port).ask().await.unwrap();
        let answer = async {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            // The first connection belongs to the previous check.
            for status in ["", "200 OK", "503 No"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                if !status.is_empty() {
                    assert!(stream.read(&mut [0; 512]).await.unwrap() > 0);
                    let text = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                    stream.write_all(text.as_bytes()).await.unwrap();
                }
            }
        };
        let check = Check::Http(host(), port, "/".to_owned());
        let asked = async { (check.ask().await.is_ok(), check.ask().await.unwrap_err().to_string()) };
        let ((), said) = tokio::join!(answer, asked);
        assert_eq!(said, (true, "it answers with status 503 Service Unavailable".to_owned()));
        drop(listener);
        assert!(check.ask().await.is_err());
    }
}
