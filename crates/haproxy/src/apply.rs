//! Sends commands to a worker and reads back their effect. Decides nothing: `plan` and `drift` say what to send.

use std::collections::BTreeSet;
use std::path::Path;

use pointsman_table::PemText;

use super::answers::{self, Refusal, refusal};
use super::command::Command;
use super::drift;
use super::maps::MapName;
use super::names::BackendName;
use super::names::cert_file;
use super::running::Running;
use super::runtime::{Fault, Runtime, with_payload};
use super::tickets::{self, TicketKeys};

/// Most payload bytes in one command: it must fit into a buffer, and `limit/head_bytes` may shrink that to just over 2
/// KiB.
const PAYLOAD: usize = 2 * 1024;

/// Why commands failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// HAProxy refused one.
    #[error("HAProxy refused {command:?}: {refusal}")]
    Refused {
        /// The command.
        command: Box<str>,
        /// The reason.
        refusal: Refusal,
    },
    /// The socket did not answer.
    #[error(transparent)]
    Socket(#[from] Fault),
    /// HAProxy accepted them, but its state does not show their effect.
    #[error("HAProxy accepted the commands, but they had no effect: {0}")]
    Ineffective(Box<str>),
}

/// One worker's socket, and the folder in the names of its maps and certificates.
#[derive(Clone, Debug)]
pub struct Applier<'a> {
    /// The socket.
    pub runtime: &'a Runtime,
    /// The folder.
    pub folder: &'a Path,
}

impl Applier<'_> {
    /// Sends commands in order, then reads back the servers that they changed. Returns how many lines were sent.
    ///
    /// # Errors
    /// See [`Failure`]. Commands sent before the failure stay in force.
    pub async fn apply(&self, commands: &[Command], running: &Running) -> Result<usize, Failure> {
        let sent = self.send(commands).await?;
        let amiss = self.read_back(commands, running).await?;
        match amiss.first() {
            Some(first) => Err(Failure::Ineffective(first.lines(self.folder).join("; ").into())),
            None => Ok(sent),
        }
    }

    /// Sends commands in order.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn send(&self, commands: &[Command]) -> Result<usize, Failure> {
        let mut sent = 0;
        for some in commands.chunk_by(|a, b| is_plain(a) && is_plain(b)) {
            sent += match some {
                [Command::ReplaceMap(name, entries)] => self.replace(*name, entries).await?,
                [Command::SetCertificate(name, pem)] => self.certify(name, pem).await?,
                [Command::SetTicketKeys(keys)] => self.rekey(keys).await?,
                plain => self.lines(plain.iter().flat_map(|command| command.lines(self.folder)).collect()).await?,
            };
        }
        Ok(sent)
    }

    async fn lines(&self, lines: Vec<String>) -> Result<usize, Failure> {
        let answers = self.runtime.ask(&lines).await?;
        for (line, answer) in lines.iter().zip(&answers) {
            if let Some(refusal) = refusal(answer) {
                return Err(Failure::Refused { command: line.as_str().into(), refusal });
            }
        }
        Ok(lines.len())
    }

    /// Replaces all entries of a map at once (Management Guide, `prepare map` and `commit map`).
    async fn replace(&self, name: MapName, entries: &[(Box<str>, String)]) -> Result<usize, Failure> {
        let map = self.folder.join(name.file());
        let prepare = format!("prepare map {}", map.display());
        let answer = self.runtime.ask_one(prepare.clone()).await?;
        let Some(version) = answer.rsplit(": ").next().and_then(|text| text.trim().parse::<u32>().ok()) else {
            let refusal = refusal(&answer).unwrap_or(Refusal::Other(answer.as_str().into()));
            return Err(Failure::Refused { command: prepare.into(), refusal });
        };
        let lines: Vec<String> = entries.iter().map(|(key, value)| format!("{key} {value}")).collect();
        let add = format!("add map @{version} {}", map.display());
        let mut commands: Vec<_> =
            pieces(&lines).map(|some| with_payload(&add, some.iter().map(String::as_str))).collect();
        commands.push(format!("commit map @{version} {}", map.display()));
        self.lines(commands).await
    }

    async fn certify(&self, name: &str, pem: &PemText) -> Result<usize, Failure> {
        let file = self.folder.join(cert_file(name));
        let set = with_payload(
            &format!("set ssl cert {}", file.display()),
            pem.as_str().lines().filter(|line| !line.is_empty()),
        );
        // Both answer in sentences; success says "Success" or "Transaction".
        for command in [set, format!("commit ssl cert {}", file.display())] {
            let answer = self.runtime.ask_one(command).await?;
            if !["Success", "Transaction"].iter().any(|word| answer.contains(word)) {
                let command = format!("set ssl cert {}", file.display()).into();
                return Err(Failure::Refused { command, refusal: Refusal::Other(answer.as_str().into()) });
            }
        }
        Ok(2)
    }

    /// Replaces the keys of session tickets. No fault quotes one.
    async fn rekey(&self, keys: &TicketKeys) -> Result<usize, Failure> {
        let set = format!("set ssl tls-key {}", self.folder.join(tickets::FILE).display());
        let commands: Vec<_> = keys.iter().map(|key| format!("{set} {key}")).collect();
        let refused =
            |words: &str| Failure::Refused { command: set.as_str().into(), refusal: Refusal::Other(words.into()) };
        let answers = self.runtime.ask(&commands).await.map_err(|_| refused("no answer"))?;
        match answers.iter().find(|answer| !answer.contains("updated")) {
            None => Ok(commands.len()),
            Some(answer) => Err(refused(answer)),
        }
    }

    /// Commands that would repair what these commands did not achieve.
    async fn read_back(&self, commands: &[Command], running: &Running) -> Result<Vec<Command>, Failure> {
        let backends: BTreeSet<_> = commands.iter().filter_map(backend_of).collect();
        let pools: Vec<_> = backends.iter().filter_map(|name| running.backends.get_key_value(*name)).collect();
        let asked: Vec<_> = pools.iter().map(|(name, _)| format!("show servers state {name}")).collect();
        let answers = self.runtime.ask(&asked).await?;
        let states: Vec<_> = answers.iter().flat_map(|answer| answers::servers(answer)).collect();
        Ok(drift::servers_of(pools.into_iter(), &states).0)
    }

    /// Compares the worker with what it should run: the commands that repair it, and backends that need a reload.
    ///
    /// # Errors
    /// The socket does not answer.
    pub async fn audit(&self, running: &Running) -> Result<(Vec<Command>, Vec<BackendName>), Fault> {
        let states = answers::servers(&self.runtime.ask_one("show servers state").await?);
        let (mut commands, beyond) = drift::servers(running, &states);
        commands.extend(drift::strangers(running, &states));
        for name in MapName::ALL {
            let map = self.folder.join(name.file());
            let answer = self.runtime.ask_one(format!("show map {}", map.display())).await?;
            if refusal(&answer).is_some_and(|refusal| refusal == Refusal::NoSuchMap) {
                continue;
            }
            let seen: Vec<_> = answers::entries(&answer).collect();
            commands.extend(drift::map(running, name, &seen));
        }
        Ok((commands, beyond))
    }
}

fn is_plain(command: &Command) -> bool {
    !matches!(command, Command::ReplaceMap(..) | Command::SetCertificate(..) | Command::SetTicketKeys(..))
}

fn backend_of(command: &Command) -> Option<&BackendName> {
    match command {
        Command::AddServer(backend, _)
        | Command::SetAddress(backend, ..)
        | Command::SetWeight(backend, ..)
        | Command::SetMaxConnections(backend, ..)
        | Command::Retire(backend, _)
        | Command::Return(backend, _) => Some(backend),
        Command::AddEntry(..)
        | Command::SetEntry(..)
        | Command::DeleteEntry(..)
        | Command::ReplaceMap(..)
        | Command::SetCertificate(..)
        | Command::SetTicketKeys(..) => None,
    }
}

/// Splits lines into pieces that fit into one command each.
fn pieces(lines: &[String]) -> impl Iterator<Item = &[String]> {
    let mut rest = lines;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|line| {
            bytes += line.len() + 1;
            bytes <= PAYLOAD
        });
        let count = fits.count().max(1).min(rest.len());
        let (piece, after) = rest.split_at(count);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}
