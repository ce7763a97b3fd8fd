//! OCSP responses in files beside certificates.

use std::path::Path;
use std::process::Command;

use super::sh;
use crate::harness::{Launch, Site, engine, finish, free_address, wait};

/// Makes an authority, a certificate of it for a.test with its key, and an OCSP response for serial number 7.
fn make(at: &Path) {
    let at = at.display();
    std::fs::write(format!("{at}/ext"), "subjectAltName=DNS:a.test").expect("our own folder");
    std::fs::write(format!("{at}/index"), "V\t491231235959Z\t\t07\tunknown\t/CN=a\n").expect("our own folder");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    let lines = [
        format!("openssl req -x509 {key} -days 30 -subj /CN=ca -keyout {at}/ca.key -out {at}/ca.pem"),
        format!("openssl req -new {key} -subj /CN=a -keyout {at}/a.key -out {at}/a.csr"),
        format!(
            "openssl x509 -req -in {at}/a.csr -CA {at}/ca.pem -CAkey {at}/ca.key -set_serial 7 -days 30 -extfile {at}/ext -out {at}/a.crt"
        ),
        format!(
            "openssl ocsp -index {at}/index -CA {at}/ca.pem -rsigner {at}/ca.pem -rkey {at}/ca.key -issuer {at}/ca.pem -cert {at}/a.crt -ndays 7 -no_nonce -respout {at}/response"
        ),
        format!("cat {at}/a.crt {at}/ca.pem {at}/a.key > {at}/both && cat {at}/a.crt {at}/a.key > {at}/alone"),
    ];
    sh(&lines.join(" && "));
}

#[test]
fn a_response_beside_a_certificate_is_sent_along() {
    let (site, made) = (Site::with(&[("services/a/domain", "a.test")]), Site::new());
    make(made.home());
    let (from, certs) = (|name: &str| made.home().join(name), made.folder());
    std::fs::copy(from("both"), certs.join("a.pem")).expect("our own folder");
    let https = free_address();
    let running = Launch::on(&site).args(&["--https", &https.to_string(), "--certs"]).arg(&certs).start();
    running.wait_ready();
    let said = || {
        let line = format!("openssl s_client -connect {https} -servername a.test -status </dev/null 2>&1");
        finish(Command::new("sh").args(["-c", &line])).stdout
    };
    wait("the certificate", || said().contains("OCSP response: no response sent"));
    std::fs::copy(from("response"), from("again")).expect("our own folder");
    std::fs::rename(from("response"), certs.join("a.pem.ocsp")).expect("our own folder");
    wait("the response", || said().contains("OCSP Response Status: successful"));
    assert!(!running.admin_page("/api/problems").contains("ocsp"));
    std::fs::write(certs.join("a.pem.ocsp"), "junk").expect("our own folder");
    running.wait_problem("bad_value", &["a.pem.ocsp", "expected an OCSP response in DER"]);
    assert!(said().contains("OCSP Response Status: successful"), "the last good one stays");
    if engine().differs("staples") {
        let whole = std::fs::read(certs.join("a.pem")).expect("just there");
        std::fs::copy(from("alone"), certs.join("a.pem")).expect("our own folder");
        std::fs::copy(from("again"), certs.join("a.pem.ocsp")).expect("our own folder");
        running.wait_listed("unsupported", &["a.pem", "only if the certificate of the issuer follows"]);
        wait("no response without the issuer", || said().contains("OCSP response: no response sent"));
        std::fs::write(certs.join("a.pem"), whole).expect("our own folder");
        wait("the response again", || said().contains("OCSP Response Status: successful"));
    }
    std::fs::remove_file(certs.join("a.pem.ocsp")).expect("our own folder");
    wait("no response", || said().contains("OCSP response: no response sent"));
    wait("no problem", || !running.admin_page("/api/problems").contains("ocsp"));
}
