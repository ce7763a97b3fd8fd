//! Certificates of any life, signed by themselves, made with openssl.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use super::finish;

/// `openssl req` knows whole days only; `openssl ca` takes times, and wants a configuration and a database.
const SCRIPT: &str = r#"
set -e
cd "$1"
touch database
cat > configuration <<END
[ca]
default_ca = here
[here]
database = database
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = names
[any]
commonName = supplied
[names]
subjectAltName = DNS:$2
[req]
distinguished_name = nothing
[nothing]
END
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key
openssl req -new -config configuration -key key -subj "/CN=$2" -out request
time() { date -u -d "@$1" +%Y%m%d%H%M%SZ; }
openssl ca -selfsign -batch -notext -config configuration -keyfile key -in request -out certificate \
    -startdate "$(time "$3")" -enddate "$(time "$4")"
"#;

/// Seconds since the epoch.
pub(crate) fn epoch() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs().cast_signed()
}

/// A certificate for this name and its key, as PEM; valid from and until these seconds since the epoch.
pub(crate) fn certificate(name: &str, from: i64, until: i64) -> String {
    let folder = TempDir::new().expect("a temporary folder");
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "sh"]).arg(folder.path()).args([name, &from.to_string(), &until.to_string()]);
    let made = finish(&mut command);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let read = |file: &str| std::fs::read_to_string(folder.path().join(file)).expect("PEM is text");
    read("certificate") + &read("key")
}
