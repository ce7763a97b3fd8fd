//! `pointsman register`: keeps an instance in the store while a command runs, or until it is removed. Serves nothing.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use pointsman_table::Protocol;
use tokio::time::sleep;

use super::patience::{full, within};
use super::{Outcome, fleet, review};
use crate::fleet::instance_key::Drain;
use crate::register::check::Check;
use crate::register::child::{self, Child};
use crate::register::doubt::Doubt;
use crate::register::{self, Registration};
use crate::{settings, sys};
use pointsman_store::{Location, Store, StoreError, StoreSettings};

/// Pause between two checks without a command.
const PAUSE: Duration = Duration::from_millis(200);

/// The arguments of `register`.
#[derive(Clone, Debug, Args)]
pub struct Request {
    /// The service's name
    pub service: String,
    /// It is a TCP service
    #[arg(long)]
    tcp: bool,
    /// The address at which balancers reach the instance: an IP address, a host name, or unix:/path
    /// [default: this machine's address on the route to the store; 127.0.0.1 with a folder]
    #[arg(long, value_name = "A")]
    address: Option<String>,
    /// The instance's port
    /// [default: the service's port]
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// The instance's name
    /// [default: the host's name and the port]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Options of the instance, such as 'weight=2 maxconn=100'
    #[arg(long, value_name = "WORDS")]
    options: Option<String>,
    /// The check that must pass: http://HOST:PORT/PATH, /PATH, tcp://HOST:PORT, tcp or none
    /// [default: tcp if there is a port, else none]
    #[arg(long, value_name = "URL")]
    check: Option<String>,
    /// How long the key stays if this process dies without signing off
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = settings::ttl)]
    ttl: Duration,
    /// How long balancers may take to finish open requests before the command gets the signal
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = settings::duration)]
    drain: Duration,
    /// Without a command: how long the check may take to pass
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = settings::duration)]
    timeout: Duration,
    /// Without a command: drain the instance, and remove its key
    #[arg(long, conflicts_with = "command")]
    remove: bool,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Request {
    /// The registration on this machine, for this store.
    ///
    /// # Errors
    /// A name or a check is not valid.
    fn registration(&self, settings: &StoreSettings) -> anyhow::Result<Registration> {
        let address = match &self.address {
            Some(address) => address.clone(),
            None => own_address(settings).to_string(),
        };
        let bracketed =
            if address.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{address}]") } else { address.clone() };
        let at = match self.port {
            Some(port) if !address.starts_with("unix:") => format!("{bracketed}:{port}"),
            Some(_) | None => bracketed,
        };
        let port = self.port.map(|port| format!("-{port}")).unwrap_or_default();
        let name = self.name.clone().unwrap_or_else(|| format!("{}{port}", sys::host_name()));
        for (what, text) in [("--name", &name), ("SERVICE", &self.service)] {
            if text.is_empty() || matches!(text.as_str(), "." | "..") || text.contains(['/', '\0']) {
                bail!("{what}: {text:?} is not a name; write one without a slash");
            }
        }
        let options = self.options.as_deref().map(|words| format!(" {}", words.trim())).unwrap_or_default();
        // Removing needs only the key.
        let check = if self.remove { Some("none") } else { self.check.as_deref() };
        let registration = Registration {
            protocol: if self.tcp { Protocol::Tcp } else { Protocol::Http },
            service: self.service.clone(),
            name,
            value: format!("{at}{options}"),
            check: Check::parse(check, &address, self.port).map_err(anyhow::Error::msg)?,
            ttl: self.ttl,
            drain: self.drain,
        };
        let key = full(&settings.prefix, &registration.key());
        match review::obstacle(&settings.prefix, &key, &registration.value) {
            Some(why) if !self.remove => bail!("{why}"),
            Some(_) | None => Ok(registration),
        }
    }
}

/// This machine's address on the route to the store: balancers, which reach the store too, can reach it there.
fn own_address(settings: &StoreSettings) -> IpAddr {
    let towards = |url: &String| {
        let uri: http::Uri = url.parse().ok()?;
        let host = uri.host()?.trim_matches(['[', ']']);
        let any: IpAddr =
            if host.contains(':') { std::net::Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        // Connecting a UDP socket sends nothing: it only chooses a route.
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((host, uri.port_u16().unwrap_or(2379))).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let found = match &settings.location {
        Location::Etcd(urls) => urls.iter().find_map(towards),
        Location::Directory(_) => None,
    };
    found.unwrap_or(Ipv4Addr::LOCALHOST.into())
}

/// Registers.
///
/// # Errors
/// An argument is wrong; the command cannot be started; without a command: the store is unreachable.
pub async fn register(settings: &StoreSettings, request: &Request, note: &mut dyn Write) -> anyhow::Result<Outcome> {
    let registration = request.registration(settings)?;
    if request.remove {
        return remove(settings, &registration, note).await;
    }
    if request.command.is_empty() {
        return once(settings, &registration, request.timeout, note).await;
    }
    // Report wrong settings before the command starts.
    Store::open(settings)?.check_place()?;
    let mut child = match Child::start(&request.command) {
        Ok(child) => child,
        Err(error) => {
            writeln!(note, "pointsman: {error:#}")?;
            return Ok(Outcome::Status(child::refusal(&error)));
        }
    };
    let status = Box::pin(register::run(settings, &registration, &mut child)).await?;
    Ok(Outcome::Status(status))
}

/// Writes the key when the check passes, without a lease: `--remove` deletes it.
async fn once(
    settings: &StoreSettings,
    registration: &Registration,
    patience: Duration,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let mut doubt = Doubt::new(start);
    let check = &registration.check;
    let mut tell = |reason: &str, note: &mut dyn Write| match doubt.is_news(Instant::now(), reason) {
        true => writeln!(note, "not registered yet: the check {check} fails: {reason}"),
        false => Ok(()),
    };
    while let Err(error) = check.ask_patiently(|| drop(tell("no answer yet", note))).await {
        tell(&format!("{error:#}"), note)?;
        if start.elapsed() >= patience {
            writeln!(note, "not registered: the check {check} still fails after {patience:?}: {error:#}")?;
            return Ok(Outcome::No);
        }
        sleep(PAUSE).await;
    }
    let key = full(&settings.prefix, &registration.key());
    let store = Store::open(settings)?;
    within(store.put(&key, registration.value.as_bytes())).await?;
    writeln!(note, "registered {key} = {}; the key stays until `pointsman register --remove`", registration.value)?;
    Ok(Outcome::Yes)
}

/// Drains the instance and deletes its key. A missing key counts as removed.
async fn remove(
    settings: &StoreSettings,
    registration: &Registration,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let (relative, store) = (registration.key(), Store::open(settings)?);
    let key = full(&settings.prefix, &relative);
    if within(store.get(&key)).await?.is_none() {
        writeln!(note, "{key} is not registered")?;
        return Ok(Outcome::Yes);
    }
    // Delete the key even if the drain fails: the program is about to stop.
    let drained = fleet::drain(settings, &relative, Drain::On, Some(registration.drain), note);
    if let Err(error) = Box::pin(drained).await {
        writeln!(note, "{error:#}; removing the key without waiting")?;
    }
    match within(store.delete(&key, false)).await {
        Err(error) if matches!(error.downcast_ref(), Some(StoreError::NoSuchKey { .. })) => Ok(Outcome::Yes),
        removed => removed.map(|_| Outcome::Yes),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use pointsman_store::Api;

    #[derive(Parser)]
    struct TestArguments {
        #[command(flatten)]
        request: Request,
    }

    fn settings(location: Location) -> StoreSettings {
        let (prefix, audit) = ("/p".to_owned(), Duration::from_secs(60));
        StoreSettings { location, api: Api::Auto, prefix, user: None, ca: None, identity: None, audit }
    }

    fn check(line: &str, expected: &str) {
        let request = TestArguments::try_parse_from(line.split(' ')).unwrap().request;
        let said = match request.registration(&settings(Location::Directory("x".into()))) {
            Ok(it) => format!("{} = {} {}", it.key(), it.value, it.check),
            Err(error) => error.to_string(),
        };
        let host = sys::host_name();
        assert_eq!(said, expected.replace("HOST", &host), "{line}");
    }

    #[test]
    fn registrations() {
        check(
            "register shop --port 9000 -- x",
            "services/shop/upstreams/HOST-9000 = 127.0.0.1:9000 tcp://127.0.0.1:9000",
        );
        check("register shop", "services/shop/upstreams/HOST = 127.0.0.1 none");
        check("register db --tcp --name a --address ::1 --port 1", "tcp-services/db/upstreams/a = [::1]:1 tcp://::1:1");
        check(
            "register shop --name a --address unix:/run/a --options weight=2 --check http://h:1/x",
            "services/shop/upstreams/a = unix:/run/a weight=2 http://h:1/x",
        );
        check("register a/b --name a", "SERVICE: \"a/b\" is not a name; write one without a slash");
        check("register a --name ..", "--name: \"..\" is not a name; write one without a slash");
        check(
            "register a --name x --port 1 --address 10.0.0.1 --options weigth=2",
            "services/a/upstreams/x: \"10.0.0.1:1 weigth=2\" is a bad instance: unknown option \"weigth=2\"; \
             expected weight=0..256, maxconn=N, backup, drain or tls",
        );
        check(
            "register a --name x --address 10.0.0.1 --options weigth=2 --check /up --remove",
            "services/a/upstreams/x = 10.0.0.1 weigth=2 none",
        );
        check("register a --check /up", "--check: this needs --port, or a URL with a port");
    }

    #[test]
    fn the_route_to_the_store_gives_the_address() {
        let address = own_address(&settings(Location::Etcd(vec!["http://127.0.0.1:2379".to_owned()])));
        assert_eq!(address, IpAddr::from(Ipv4Addr::LOCALHOST));
    }
}
