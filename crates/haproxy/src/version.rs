//! HAProxy's version and features, read from the output of `haproxy -vv`. Starts nothing.

/// A version of HAProxy, with its build options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// `2` of 2.6.12.
    pub major: u16,
    /// `6` of 2.6.12.
    pub minor: u16,
    /// `12` of 2.6.12; 0 if there is none.
    pub patch: u16,
    /// Built with PCRE or PCRE2: POSIX expressions cannot express every `url_reg`.
    pub pcre: bool,
    /// Built with OpenSSL or a compatible library.
    pub tls: bool,
}

impl Version {
    /// The oldest that this engine drives.
    pub const OLDEST: (u16, u16) = (2, 4);

    /// Whether it is this version or a later one.
    pub fn at_least(self, major: u16, minor: u16) -> bool {
        (self.major, self.minor) >= (major, minor)
    }

    /// Servers may be added and deleted at run time, with checks, and without `experimental-mode` (2.6).
    pub fn has_dynamic_servers(self) -> bool {
        self.at_least(2, 6)
    }

    /// The authorities that the machine trusts have a name, `@system-ca` (2.6).
    pub fn has_system_authorities(self) -> bool {
        self.at_least(2, 6)
    }

    /// The master answers `reload` with its verdict and the worker's own words (2.7).
    pub fn has_synchronous_reload(self) -> bool {
        self.at_least(2, 7)
    }

    /// Reads the output of `haproxy -vv`, or of `haproxy -v`, which lists no build options.
    pub fn parse(text: &str) -> Option<Self> {
        let numbers = release(text)?.split(['-', '+', '~', ' ']).next()?;
        let mut numbers = numbers.split('.').map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return None };
        let patch = numbers.next().and_then(Result::ok).unwrap_or(0);
        let has = |features: &[&str]| features.iter().any(|feature| is_built_in(text, feature));
        let pcre = has(&["PCRE", "PCRE2", "STATIC_PCRE", "STATIC_PCRE2"]);
        let tls = has(&["OPENSSL", "OPENSSL_AWSLC", "OPENSSL_WOLFSSL"]);
        Some(Self { major, minor, patch, pcre, tls })
    }
}

/// The version as HAProxy writes it, such as `2.6.12-1+deb12u4` or `3.5-dev5-03bde20ef`.
pub fn release(text: &str) -> Option<&str> {
    // Up to 2.3 it called itself HA-Proxy.
    let rest = text
        .lines()
        .find_map(|line| line.strip_prefix("HAProxy version ").or_else(|| line.strip_prefix("HA-Proxy version ")))?;
    rest.split_whitespace().next()
}

/// The feature list has `+PCRE2` or `-PCRE2`; some builds have only the line of options, with `USE_PCRE2=1`.
fn is_built_in(text: &str, feature: &str) -> bool {
    text.split_whitespace().any(|word| {
        word.strip_prefix('+') == Some(feature)
            || word.strip_prefix("USE_").and_then(|word| word.strip_suffix("=1")) == Some(feature)
    })
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_version_is_read() {
        for (line, expected) in [
            ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/", "2.6.12-1+deb12u4 2.6.12"),
            ("HAProxy version 2.4.0-6cbbecf09 2021/05/14 - https://haproxy.org/", "2.4.0-6cbbecf09 2.4.0"),
            ("HAProxy version 2.4.24-0ubuntu0.22.04.2 2023/08/19", "2.4.24-0ubuntu0.22.04.2 2.4.24"),
            ("HAProxy version 3.5-dev5-03bde20ef 2026/08/21 - https://haproxy.org/", "3.5-dev5-03bde20ef 3.5.0"),
            ("HAProxy version 3.2.4 2025/08/13", "3.2.4 3.2.4"),
            ("HAProxy version 3.0.11-1~bpo12+1 2025/06/03", "3.0.11-1~bpo12+1 3.0.11"),
            ("HAProxy version 2.8.0-1.0.0-305.641 2023/09/01 - https://www.haproxy.com/", "2.8.0-1.0.0-305.641 2.8.0"),
            ("HA-Proxy version 2.2.9-2+deb11u6 2023/12/10 - https://haproxy.org/", "2.2.9-2+deb11u6 2.2.9"),
            ("HA-Proxy version 1.5.18 2016/05/10", "1.5.18 1.5.18"),
            ("some warning of the loader\nHAProxy version 2.9.1 2024/01/01", "2.9.1 2.9.1"),
        ] {
            let found = format!("{} {}", release(line).unwrap(), Version::parse(line).unwrap());
            assert_eq!(found, expected, "{line:?}");
        }
        for line in ["", "nginx version: nginx/1.22.1", "HAProxy version ", "HAProxy version x.y", "HAProxy version 2"]
        {
            assert_eq!(Version::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn what_was_built_in_is_read() {
        for (text, pcre, tls) in [
            ("", false, false),
            ("Feature list : -51DEGREES +ACCEPT4 +OPENSSL -PCRE +PCRE2 +PCRE2_JIT", true, true),
            ("Feature list : -OPENSSL -PCRE -PCRE2 -PCRE2_JIT -STATIC_PCRE", false, false),
            ("Feature list : +OPENSSL_AWSLC +STATIC_PCRE2", true, true),
            ("  OPTIONS = USE_PCRE2=1 USE_PCRE2_JIT=1 USE_OPENSSL=1 USE_LUA=1", true, true),
            ("  OPTIONS = USE_PCRE= USE_OPENSSL=", false, false),
        ] {
            let version = Version::parse(&format!("HAProxy version 2.6.1 2022/01/01\n{text}\n")).unwrap();
            assert_eq!((version.pcre, version.tls), (pcre, tls), "{text:?}");
        }
    }
}
