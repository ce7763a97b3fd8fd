//! Certificates from outside the store: the files of `--certs`, then variables of the environment. Follows the files,
//! names them, and judges none.

use std::collections::BTreeMap;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pointsman_store::directory::Unreadable;
use pointsman_store::{Condition, Directory, Update};
use pointsman_table::{Change, OuterCert, Problem, ProblemKind};
use tokio::sync::{mpsc, watch};
use tracing::info;

use crate::control::Around;
use crate::settings::Settings;

/// How often the folder is read in full and compared.
const AUDIT: Duration = Duration::from_secs(180);
/// The end of the name of a file with an OCSP response, behind that of its certificate; as HAProxy has it.
const STAPLE: &str = ".ocsp";
/// Most updates from the folder that may queue.
const UPDATES: usize = 16;

/// The certificates; `None` before they were read for the first time.
pub type OuterCerts = Option<Arc<[OuterCert]>>;

/// Where certificates come from besides the store.
#[derive(Clone, Debug)]
pub struct CertSources {
    folder: Option<PathBuf>,
    variables: Arc<[OuterCert]>,
}

impl CertSources {
    /// Those of the settings.
    pub fn new(settings: &Settings) -> Self {
        Self { folder: settings.certs.clone(), variables: settings.cert_variables.clone() }
    }

    /// All certificates now, and what is wrong with the folder. Blocks.
    pub fn read(&self) -> (Arc<[OuterCert]>, Option<Problem>) {
        let Some(folder) = &self.folder else { return (self.variables.clone(), None) };
        match Directory::of_files(folder, AUDIT) {
            Ok(directory) => {
                let (listing, unreadable) = directory.read_files();
                let files = listing.entries.into_iter().map(|(file, bytes)| (file, bytes.into())).collect();
                let files = Files { files, unreadable, is_read: true };
                (self.all(folder, &files), files.problem(folder))
            }
            Err(error) => (self.variables.clone(), Some(unread(folder, &error.to_string()))),
        }
    }

    /// What is known before the folder was read.
    pub fn first(&self) -> OuterCerts {
        self.folder.is_none().then(|| self.variables.clone())
    }

    /// Follows the folder, if there is one. Never ends.
    pub async fn follow(self, certs: watch::Sender<OuterCerts>, around: watch::Sender<Around>) {
        let Some(folder) = &self.folder else { return pending().await };
        let directory = match Directory::of_files(folder, AUDIT) {
            Ok(directory) => directory,
            Err(error) => {
                certs.send_replace(Some(self.variables.clone()));
                around.send_modify(|around| around.certs = Some(unread(folder, &error.to_string())));
                return pending().await;
            }
        };
        let (updates, changes) = mpsc::channel(UPDATES);
        let (condition, told) = watch::channel(Condition::Connecting { error: None });
        let (unreadable, unread) = watch::channel(Unreadable::new());
        tokio::join!(
            directory.follow_files(updates, condition, unreadable),
            self.publish(folder, changes, told, unread, (certs, around)),
        );
    }

    async fn publish(
        &self,
        folder: &Path,
        mut changes: mpsc::Receiver<Update>,
        mut told: watch::Receiver<Condition>,
        mut unread: watch::Receiver<Unreadable>,
        (certs, around): (watch::Sender<OuterCerts>, watch::Sender<Around>),
    ) {
        let mut files = Files::default();
        loop {
            tokio::select! {
                Some(update) = changes.recv() => files.take(folder, update),
                Ok(()) = told.changed() => {}
                Ok(()) = unread.changed() => {}
                else => return,
            }
            files.unreadable.clone_from(&unread.borrow_and_update());
            let outage = told.borrow_and_update().outage().map(ToString::to_string);
            if let Some(why) = &outage {
                files.unreadable.insert("".into(), why.clone());
            }
            let problem = files.problem(folder);
            around.send_if_modified(|around| std::mem::replace(&mut around.certs, problem.clone()) != problem);
            if files.is_read || outage.is_some() {
                let all = Some(self.all(folder, &files));
                certs.send_if_modified(|last| {
                    let is_news = *last != all;
                    *last = all;
                    is_news
                });
            }
        }
    }

    /// Files in the order of their names, then variables.
    fn all(&self, folder: &Path, files: &Files) -> Arc<[OuterCert]> {
        files.certs(folder).chain(self.variables.iter().cloned()).collect()
    }
}

/// The files of the folder.
#[derive(Default)]
struct Files {
    /// The last content that could be read. Secret.
    files: BTreeMap<Box<str>, Arc<[u8]>>,
    unreadable: Unreadable,
    /// Whether the folder was ever read.
    is_read: bool,
}

impl Files {
    fn take(&mut self, folder: &Path, update: Update) {
        match update {
            Update::Reset { entries, .. } => {
                self.files = entries.into_iter().map(|(file, bytes)| (file, bytes.into())).collect();
                self.is_read = true;
            }
            Update::Changes { changes, .. } => changes.into_iter().for_each(|change| self.change(folder, change)),
        }
    }

    fn change(&mut self, folder: &Path, change: Change) {
        match change {
            Change::Put { key, value } => {
                info!("certificate file {} changed", folder.join(&*key).display());
                self.files.insert(key, value.into());
            }
            Change::Delete { key } => {
                info!("certificate file {} is gone", folder.join(&*key).display());
                self.files.remove(&key);
            }
            Change::DeleteTree { key } => {
                let below =
                    |file: &str| key.is_empty() || file.strip_prefix(&*key).is_some_and(|rest| rest.starts_with('/'));
                info!("no certificate file is left in {}", folder.join(&*key).display());
                self.files.retain(|file, _| !below(file));
            }
        }
    }

    /// What is wrong with the folder as a whole.
    fn problem(&self, folder: &Path) -> Option<Problem> {
        self.unreadable.get("").map(|why| unread(folder, why))
    }

    /// Files in folders below are none, as in a mounted Secret.
    fn certs(&self, folder: &Path) -> impl Iterator<Item = OuterCert> {
        let good = self.files.iter().filter(|(file, _)| !self.unreadable.contains_key(*file));
        let good = good.map(|(file, bytes)| (&**file, Ok(bytes.clone())));
        let bad = self.unreadable.iter().map(|(file, why)| (&**file, Err(why.as_str().into())));
        let all: BTreeMap<&str, _> =
            good.chain(bad).filter(|(file, _)| !file.is_empty() && !file.contains('/')).collect();
        let is_staple = |file: &str| file.strip_suffix(STAPLE).is_some_and(|cert| self.files.contains_key(cert));
        all.into_iter().filter(move |(file, pem)| pem.is_err() || !is_staple(file)).map(|(file, pem)| OuterCert {
            name: file.strip_suffix(".pem").filter(|name| !name.is_empty()).unwrap_or(file).into(),
            origin: format!("--certs: {}", folder.join(file).display()).into(),
            pem,
            staple: self.files.get(&*format!("{file}{STAPLE}")).cloned(),
        })
    }
}

fn unread(folder: &Path, why: &str) -> Problem {
    let advice = format!("cannot read the folder {}: {why}; its last certificates stay in use", folder.display());
    Problem::of_setting(ProblemKind::BadValue, "certs", advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_certificates_by_name() {
        let entries = ["shop.pem", "www", "below/a.pem", "x.crt.pem", "shop.pem.ocsp", "gone.pem.ocsp"]
            .map(|file| (file.into(), b"x".as_slice().into()));
        let mut files = Files::default();
        files.take(Path::new("/c"), Update::Reset { revision: 1, entries: entries.into() });
        files.unreadable = [("bad.pem", "no rights"), ("www", "gone"), ("below", "x"), ("below/b", "x")]
            .map(|(file, why)| (file.into(), why.to_owned()))
            .into();
        let certs = |files: &Files| {
            let each = files.certs(Path::new("/c"));
            let staple = |cert: &OuterCert| if cert.staple.is_some() { " stapled" } else { "" };
            let each = each.map(|cert| {
                format!("{}={} {}{}", cert.name, cert.origin, cert.pem.as_ref().map_or("!", |_| "ok"), staple(&cert))
            });
            each.collect::<Vec<_>>()
        };
        assert_eq!(
            certs(&files),
            [
                "bad=--certs: /c/bad.pem !",
                "below=--certs: /c/below !",
                "gone.pem.ocsp=--certs: /c/gone.pem.ocsp ok",
                "shop=--certs: /c/shop.pem ok stapled",
                "www=--certs: /c/www !",
                "x.crt=--certs: /c/x.crt.pem ok",
            ]
        );
        files.unreadable.clear();
        files.take(
            Path::new("/c"),
            Update::Changes { revision: 2, changes: vec![Change::Delete { key: "www".into() }] },
        );
        assert_eq!(certs(&files).len(), 3);
        files.take(
            Path::new("/c"),
            Update::Changes { revision: 3, changes: vec![Change::DeleteTree { key: "".into() }] },
        );
        assert!(certs(&files).is_empty());
    }
}
