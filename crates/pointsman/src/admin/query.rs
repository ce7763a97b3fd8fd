//! What `explain` is asked about: a URL, and what else is known of the request. Matches and picks nothing.

use std::net::IpAddr;
use std::str::FromStr;

use clap::Args;
use http::{HeaderName, HeaderValue, Method};
use pointsman_table::Imagined;

use super::url::ExplainUrl;

/// The request to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainQuery {
    /// Its URL, or the address of a TCP connection.
    pub url: ExplainUrl,
    /// The rest of it.
    pub request: ExplainRequest,
}

/// What is known of a request besides its URL.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct ExplainRequest {
    /// Its method
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET", value_parser = method)]
    pub method: String,
    /// A header of the request, such as `Cookie: SRV=web-1`; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// The client's address
    #[arg(long, value_name = "ADDRESS")]
    pub client: Option<IpAddr>,
}

impl Default for ExplainRequest {
    fn default() -> Self {
        Self { method: Method::GET.to_string(), headers: Vec::new(), client: None }
    }
}

impl ExplainQuery {
    /// Reads a query: `url=URL`, and, if they are known, `method=METHOD`, `header=NAME: VALUE` as often as needed, and
    /// `client=ADDRESS`.
    ///
    /// # Errors
    /// There is no URL, or a value is bad: says what is right.
    pub fn read(pairs: &[(String, String)]) -> Result<Self, String> {
        let (mut url, mut request) = (None, ExplainRequest::default());
        for once in ["url", "method", "client"] {
            if pairs.iter().filter(|(name, _)| name == once).count() > 1 {
                let what = if once == "url" { "URL" } else { once };
                return Err(format!("{once} is given twice; ask for one {what} at a time"));
            }
        }
        for (name, value) in pairs {
            match name.as_str() {
                "url" => url = Some(value.parse()?),
                "method" => request.method = method(value)?,
                "header" => request.headers.push(header(value)?),
                "client" => {
                    let wrong = |_| format!("client: {value:?} is not an IP address, such as 192.0.2.9");
                    request.client = Some(value.parse().map_err(wrong)?);
                }
                _ => {}
            }
        }
        let url = url.ok_or("no URL; request /api/explain?url=http://shop.test/cart")?;
        Ok(Self { url, request })
    }
}

impl ExplainRequest {
    /// The request, as the table looks at it.
    pub fn imagined(&self) -> Imagined {
        Imagined { method: self.method.clone(), headers: self.headers.clone(), client: self.client }
    }

    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A method (RFC 9110 §9.1): a token, upper and lower case told apart.
fn method(text: &str) -> Result<String, String> {
    let good = Method::from_str(text).map(|method| method.to_string());
    good.map_err(|_| format!("{text:?} is not a method, such as GET"))
}

/// `NAME: VALUE`.
fn header(text: &str) -> Result<(String, String), String> {
    let good = text.split_once(':').map(|(name, value)| (name.trim(), value.trim())).filter(|(name, value)| {
        HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_bytes(value.as_bytes()).is_ok()
    });
    let good = good.map(|(name, value)| (name.to_owned(), value.to_owned()));
    good.ok_or_else(|| format!("{text:?} is not a header, such as 'Accept: text/html'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<ExplainQuery, String> {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ExplainQuery::read(&pairs)
    }

    #[test]
    fn a_query_has_a_url_and_what_is_known_of_the_request() {
        let asked = read(&[
            ("url", "http://shop.test/cart"),
            ("method", "POST"),
            ("header", "Cookie: a=1"),
            ("header", "x-user:7"),
            ("client", "::1"),
            ("other", "x"),
        ]);
        let ExplainQuery { request, .. } = asked.unwrap();
        assert_eq!((request.method.as_str(), request.client), ("POST", "::1".parse().ok()));
        assert_eq!((request.header("cookie"), request.header("X-User")), (Some("a=1"), Some("7")));
        assert_eq!(request.header("x-other"), None);
        assert_eq!(read(&[("url", "/")]).unwrap().request, ExplainRequest::default());
    }

    #[test]
    fn bad_values_are_refused() {
        let check = |name: &str, value: &str, expected: &str| {
            let error = read(&[("url", "/"), (name, value)]).unwrap_err();
            assert!(error.contains(expected), "{name}={value}: {error}");
        };
        check("method", "", "is not a method");
        check("method", "GET /", "is not a method");
        check("header", "Cookie", "is not a header");
        check("header", "a b: c", "is not a header");
        check("header", "a: b\r\nc: d", "is not a header");
        check("client", "shop.test", "is not an IP address");
        check("url", "/b", "ask for one URL at a time");
        assert!(read(&[("url", "ftp://a")]).unwrap_err().contains("is not a URL"));
        assert!(read(&[("method", "GET")]).unwrap_err().contains("no URL"));
    }
}
