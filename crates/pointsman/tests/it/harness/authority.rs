//! An authority that issues certificates of any life, made with openssl.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::{epoch, finish};

/// `openssl ca` takes times, and wants a configuration and a database.
const SCRIPT: &str = r#"
set -e
cd "$1"
touch database
cat > "$2.cnf" <<END
[ca]
default_ca = here
[here]
database = database
new_certs_dir = .
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
x509_extensions = names
[any]
commonName = supplied
[names]
basicConstraints = CA:FALSE
subjectAltName = $3
[req]
distinguished_name = nothing
[nothing]
END
[ -e ca.pem ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=authority \
    -keyout ca.key -out ca.pem
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$2.key"
openssl req -new -config "$2.cnf" -key "$2.key" -subj "/CN=$2" -out "$2.csr"
time() { date -u -d "@$1" +%Y%m%d%H%M%SZ; }
openssl ca -batch -notext -config "$2.cnf" -cert ca.pem -keyfile ca.key -in "$2.csr" -out "$2.crt" \
    -startdate "$(time "$4")" -enddate "$(time "$5")"
cat "$2.key" >> "$2.crt"
"#;

/// One day, in seconds.
const DAY: i64 = 86_400;

/// An authority, and the certificates that it issued.
pub(crate) struct Authority {
    folder: TempDir,
}

impl Authority {
    /// A new one.
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().expect("a temporary folder") }
    }

    /// A file with a certificate that is valid now, and its key. `names`: `DNS:a.test,IP:127.0.0.1`.
    #[track_caller]
    pub(crate) fn issue(&self, label: &str, names: &str) -> PathBuf {
        self.issue_for(label, names, [epoch() - DAY, epoch() + 30 * DAY])
    }

    /// The same of one that has expired.
    #[track_caller]
    pub(crate) fn issue_expired(&self, label: &str, names: &str) -> PathBuf {
        self.issue_for(label, names, [epoch() - 3 * DAY, epoch() - DAY])
    }

    /// Its own certificate, which exists once it has issued one.
    #[track_caller]
    pub(crate) fn pem(&self) -> String {
        std::fs::read_to_string(self.file()).expect("it has issued something")
    }

    /// The file of its own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The same of one that is valid from and until these seconds since the epoch.
    #[track_caller]
    pub(crate) fn issue_for(&self, label: &str, names: &str, life: [i64; 2]) -> PathBuf {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "sh"]).arg(self.folder.path()).args([label, names]);
        command.args(life.map(|second| second.to_string()));
        let made = finish(&mut command);
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        self.folder.path().join(format!("{label}.crt"))
    }
}
