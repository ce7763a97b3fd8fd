//! Users, tokens, certificates.

use std::path::{Path, PathBuf};
use std::process::Command;

use pointsman_store::error::StoreError;
use pointsman_store::etcd3::Etcd3;
use pointsman_store::{Condition, StoreSettings};
use tempfile::TempDir;

use crate::etcd::{Etcd, Plan};
use crate::follower::{Follower, settings};

fn user(url: &str, name: &str, password: &str) -> StoreSettings {
    let mut settings = settings(&[url]);
    settings.user = Some((name.to_owned(), password.to_owned()));
    settings
}

/// `root` may do all, `reader` may read `/x/`.
fn with_users(args: &[&str]) -> Etcd {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    let mut etcd = Etcd::with(Plan { args, ..Plan::default() });
    etcd.ctl(&["user", "add", "root:secret"]);
    etcd.ctl(&["role", "add", "reading"]);
    etcd.ctl(&["role", "grant-permission", "reading", "--prefix=true", "read", "/x/"]);
    etcd.ctl(&["user", "add", "reader:secret"]);
    etcd.ctl(&["user", "grant-role", "reader", "reading"]);
    etcd.ctl(&["user", "grant-role", "root", "root"]);
    etcd.ctl(&["auth", "enable"]);
    etcd.ctl = vec!["--user=root:secret".to_owned()];
    etcd
}

#[tokio::test]
async fn a_user_reads_what_its_role_permits() {
    let etcd = with_users(&[]);
    etcd.ctl(&["put", "/x/a", "1"]);
    let mut follower = Follower::with(Etcd3::new(&user(&etcd.url, "reader", "secret")).unwrap());
    follower.sees("a", "1").await;
    follower.watching().await;
    etcd.ctl(&["put", "/x/a", "2"]);
    follower.sees("a", "2").await;
    let check = async |settings: StoreSettings, key: &str, want: &str| match Etcd3::new(&settings)
        .unwrap()
        .put(key, b"1")
        .await
    {
        Err(error @ StoreError::Refused { .. }) => {
            assert!(error.to_string().contains(want), "{error}")
        }
        other => panic!("{other:?}"),
    };
    check(user(&etcd.url, "reader", "secret"), "/x/a", "permission denied").await;
    check(user(&etcd.url, "reader", "wrong"), "/x/a", "authentication failed").await;
    check(settings(&[&etcd.url]), "/x/a", "user name is empty").await;
    let mut refused = Follower::with(Etcd3::new(&user(&etcd.url, "reader", "wrong")).unwrap());
    let said = refused.condition("refusal", |it| matches!(it, Condition::Connecting { error: Some(_) })).await;
    assert!(format!("{said:?}").contains("--etcd-user"), "{said:?}");
}

#[tokio::test]
async fn a_user_is_not_needed_where_there_are_none() {
    let etcd = Etcd::start();
    let store = Etcd3::new(&user(&etcd.url, "reader", "secret")).unwrap();
    store.put("/x/a", b"1").await.unwrap();
    etcd.ctl(&["user", "add", "root:secret"]);
    etcd.ctl(&["user", "add", "reader:secret"]);
    etcd.ctl(&["user", "grant-role", "root", "root"]);
    etcd.ctl(&["user", "grant-role", "reader", "root"]);
    etcd.ctl(&["auth", "enable"]);
    store.put("/x/a", b"2").await.unwrap();
}

#[tokio::test]
async fn tokens_are_renewed() {
    let mut etcd = with_users(&["--auth-token-ttl=1"]);
    let store = Etcd3::new(&user(&etcd.url, "root", "secret")).unwrap();
    let mut follower = Follower::with(Etcd3::new(&user(&etcd.url, "reader", "secret")).unwrap());
    follower.watching().await;
    store.put("/x/a", b"1").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    store.put("/x/a", b"2").await.unwrap();
    follower.sees("a", "2").await;
    // Any change to users makes all tokens old, at the next call.
    etcd.ctl(&["user", "add", "someone:else"]);
    store.put("/x/a", b"3").await.unwrap();
    follower.sees("a", "3").await;
    etcd.kill();
    follower.lost().await;
    etcd.restart();
    store.put("/x/a", b"4").await.unwrap();
    follower.sees("a", "4").await;
    assert_eq!(follower.resets, 1);
}

struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// An authority, a server's certificate for 127.0.0.1, a client's.
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let certificates = Self { folder };
        certificates
            .openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem");
        for (name, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
            let extensions = format!("subjectAltName=IP:127.0.0.1\nextendedKeyUsage={usage},clientAuth\n");
            std::fs::write(certificates.path("extensions"), extensions).unwrap();
            certificates
                .openssl(&format!("req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"));
            certificates.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out {name}.pem"
            ));
        }
        certificates
    }

    fn openssl(&self, line: &str) {
        let out = Command::new("openssl").args(line.split(' ')).current_dir(self.folder.path()).output().unwrap();
        assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn flag(&self, flag: &str, name: &str) -> String {
        format!("--{flag}={}", self.path(name).display())
    }

    /// A server that wants the client's certificate.
    fn etcd(&self) -> Etcd {
        Etcd::with(Plan {
            scheme: "https",
            args: vec![
                self.flag("cert-file", "server.pem"),
                self.flag("key-file", "server.key"),
                self.flag("trusted-ca-file", "ca.pem"),
                "--client-cert-auth".to_owned(),
            ],
            ctl: vec![self.flag("cacert", "ca.pem"), self.flag("cert", "client.pem"), self.flag("key", "client.key")],
        })
    }
}

#[tokio::test]
async fn certificates_on_both_sides() {
    let certificates = Certificates::new();
    let etcd = certificates.etcd();
    etcd.ctl(&["put", "/x/a", "1"]);
    let mut good = settings(&[&etcd.url]);
    good.ca = Some(certificates.path("ca.pem"));
    good.identity = Some((certificates.path("client.pem"), certificates.path("client.key")));
    let mut follower = Follower::with(Etcd3::new(&good).unwrap());
    follower.sees("a", "1").await;

    let check = async |settings: &StoreSettings, want: &str| {
        let error = Etcd3::new(settings).unwrap().get("/x/a").await.unwrap_err();
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains(want), "{error}");
    };
    check(&StoreSettings { identity: None, ..good.clone() }, "ertificate").await;
    check(&StoreSettings { ca: Some(certificates.path("client.pem")), ..good.clone() }, "certificate").await;
    check(&settings(&[&etcd.url.replace("https", "http")]), "https://").await;

    let bad_file = |settings: StoreSettings, want: &str| {
        let error = Etcd3::new(&settings).map(drop).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    };
    bad_file(StoreSettings { ca: Some(Path::new("/no/such").into()), ..good.clone() }, "--etcd-ca /no/such");
    bad_file(StoreSettings { ca: Some(certificates.path("ca.key")), ..good.clone() }, "--etcd-ca");
    let swapped = Some((certificates.path("client.pem"), certificates.path("server.key")));
    bad_file(StoreSettings { identity: swapped, ..good.clone() }, "--etcd-key");
}
