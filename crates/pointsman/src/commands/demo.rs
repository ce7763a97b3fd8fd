//! `pointsman demo`: serves sample backends from a temporary folder and prints commands to try. Leaves nothing behind.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::ask::reachable;
use super::run::{Addresses, Reload, run};
use super::samples;
use super::self_signed::SelfSigned;
use crate::settings::{Chosen, CommandLine, Settings};

/// The demo's certificate for clients: a hidden file in its folder, and so no key.
const CERTIFICATE: &str = ".certificate.pem";

/// The mode of a file that everybody may read.
const PUBLIC: u32 = 0o644;

/// The mode of a file with a private key.
const SECRET: u32 = 0o600;

/// A temporary folder, removed when dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Creates a folder that only this user can read.
    ///
    /// # Errors
    /// The machine's folder for temporary files cannot be written.
    pub fn new(command: &str) -> anyhow::Result<Self> {
        let name = format!("pointsman-{command}-{:08x}", fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        // Fails if the name exists: then the folder is somebody else's.
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("making the folder {}", path.display()))?;
        Ok(Self(path))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn put(&self, key: &str, value: &str, mode: u32) -> anyhow::Result<()> {
        let file = self.0.join(key);
        let folder = file.parent().expect("a key below the folder has one");
        let open = || fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&file);
        let made = fs::create_dir_all(folder).and_then(|()| open());
        let written = made.and_then(|mut file| writeln!(file, "{}", value.trim_end()));
        written.with_context(|| format!("writing {}", file.display()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A failure has no remedy here, and the folder is in the place for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Adds the settings of a demo to the command line: this folder, and free ports unless others were chosen.
pub fn arrange(folder: &Folder, given: &mut CommandLine, chosen: &Chosen) {
    let mut set = |name, value: String| given.insert(name, vec![value]);
    set("store", folder.0.display().to_string());
    set("prefix", "/".to_owned());
    if !chosen.has("state") {
        set("state", folder.0.join(".state").display().to_string());
    }
    for (name, port) in [("http", 8080), ("https", 8443), ("admin", 8404)] {
        if !chosen.has(name) {
            set(name, free_or_any(port).to_string());
        }
    }
}

/// The port if it is free, else 0: any.
fn free_or_any(port: u16) -> SocketAddr {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpListener::bind(wanted) {
        Ok(_) => wanted,
        Err(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    }
}

/// A port that was free just now.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The addresses of the samples.
struct Samples {
    web: [SocketAddr; 3],
    shop: SocketAddr,
    tcp: SocketAddr,
}

/// Serves until stopped; prints commands to try on `out` once they work.
///
/// # Errors
/// The folder cannot be written, or as [`run`].
pub async fn demo(
    folder: &Folder,
    settings: &Settings,
    reload: Reload,
    program: &str,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let samples = Samples {
        web: [samples::start("web-1").await?, samples::start("web-2").await?, samples::start("web-3").await?],
        shop: samples::start("shop-1").await?,
        tcp: SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)),
    };
    let hosts = hosts(&[settings.http[0], settings.https[0]]);
    let keys = keys(&samples, &hosts);
    for (key, value) in &keys {
        folder.put(key, value, PUBLIC)?;
    }
    certify(folder, &hosts)?;
    let mut written = Ok(());
    let print = |addresses: &Addresses| {
        let text = text(&quoted(program), &folder.0, &keys, &samples, addresses);
        written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    };
    Box::pin(run(settings, reload, false, print)).await?;
    Ok(written?)
}

/// The hosts of the first service: its names, and what curl sends for the bare addresses of the listeners.
fn hosts(listeners: &[SocketAddr]) -> Vec<String> {
    let mut hosts = vec!["hello.localhost".to_owned(), "localhost".to_owned()];
    for host in listeners.iter().map(|address| host(reachable(*address))) {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

/// An address as URLs have it, without its port.
fn host(address: SocketAddr) -> String {
    let text = address.to_string();
    text.rsplit_once(':').map_or(text.as_str(), |(host, _)| host).to_owned()
}

/// Makes a certificate for the hosts: with its key in the store, without it in a file for clients.
fn certify(folder: &Folder, hosts: &[String]) -> anyhow::Result<()> {
    let names: Vec<_> = hosts.iter().map(|host| host.trim_matches(['[', ']']).to_owned()).collect();
    let made = SelfSigned::new(&names).context("making a certificate")?;
    folder.put("certs/demo", &(made.certificate.clone() + &made.key), SECRET)?;
    folder.put(CERTIFICATE, &made.certificate, PUBLIC)
}

fn keys(samples: &Samples, hosts: &[String]) -> Vec<(&'static str, String)> {
    vec![
        ("services/hello/domain", hosts.join(", ")),
        ("services/hello/web-1", samples.web[0].to_string()),
        ("services/hello/web-2", samples.web[1].to_string()),
        ("tcp-services/raw/port", samples.tcp.to_string()),
        ("tcp-services/raw/web-1", samples.web[0].to_string()),
    ]
}

fn text(program: &str, folder: &Path, keys: &[(&str, String)], samples: &Samples, addresses: &Addresses) -> String {
    let store = format!("--store {}", quoted(&folder.display().to_string()));
    let http = reachable(addresses.http[0]);
    let https = https_line(folder, reachable(addresses.https[0]));
    let Samples { web, shop, tcp } = samples;
    let keys: String = keys.iter().map(|(key, value)| format!("  {key:<24} {value}\n")).collect();
    let admin = addresses.admin.map(reachable);
    let problems = admin.map(|admin| format!("  curl http://{admin}/api/problems\n")).unwrap_or_default();
    let admin = admin.map(|admin| admin_text(program, &store, admin)).unwrap_or_default();
    format!(
        "
The demo is serving. Its keys are files in {folder}:

{keys}  certs/demo               (secret)

Try this in another terminal. Two instances take turns:

  curl -s http://{http}/ http://{http}/ http://{http}/ http://{http}/ | grep Hello

The request as it arrives at an instance:

  curl http://{http}/

The same over HTTPS, with the demo's own certificate:

  {https}

Add a third instance, remove the first, and repeat the requests:

  {program} set {store} services/hello/web-3 {third}
  {program} rm {store} services/hello/web-1

Add a service with its own host name:

  {program} set {store} services/shop/domain shop.test
  {program} set {store} services/shop/shop-1 {shop}
  curl -H 'Host: shop.test' http://{http}/cart

Write a bad value. The service keeps its last good settings, and the problem names the key:

  echo 80x > {bad}
{problems}  curl -H 'Host: shop.test' http://{http}/cart

A TCP service on its own port:

  curl http://{tcp}/
{admin}
Ctrl-C ends the demo and removes the folder.

",
        folder = folder.display(),
        bad = quoted(&folder.join("services/shop/port").display().to_string()),
        third = web[2],
    )
}

/// By name, so that a client sends it as its TLS server name.
fn https_line(folder: &Path, https: SocketAddr) -> String {
    let certificate = quoted(&folder.join(CERTIFICATE).display().to_string());
    let (name, port) = ("hello.localhost", https.port());
    let resolve = quoted(&format!("{name}:{port}:{}", host(https)));
    format!("curl --cacert {certificate} --resolve {resolve} https://{name}:{port}/")
}

fn admin_text(program: &str, store: &str, admin: SocketAddr) -> String {
    format!(
        "
Look inside:

  {program} routes {store} --admin {admin}
  {program} explain {store} --admin {admin} http://shop.test/cart
  curl http://{admin}/metrics
"
    )
}

/// Quotes a word for the shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_the_shell() {
        for (word, expected) in [
            ("target/release/pointsman", "target/release/pointsman"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    #[test]
    fn a_taken_port_becomes_any() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(free_or_any(address.port()).port(), 0);
    }

    #[test]
    fn the_folder_is_gone_afterwards() {
        let folder = Folder::new("demo").unwrap();
        let path = folder.0.clone();
        folder.put("services/a/b", "c", PUBLIC).unwrap();
        assert_eq!(fs::read_to_string(path.join("services/a/b")).unwrap(), "c\n");
        drop(folder);
        assert!(!path.exists());
    }
}
