//! The engines, each with its own store, and their shared instances. Executes rows; compares nothing.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;

use super::answer::Answer;
use super::rows::{Ask, Body};
use crate::harness::{
    Backend, Connection, Engine, Launch, PATIENCE, Pointsman, Raw, Site, Then, echo_tcp, free_address, free_port, wait,
};

/// Instances by name, started on first use.
#[derive(Default)]
pub(crate) struct Cast {
    backends: HashMap<String, Backend>,
    others: HashMap<String, String>,
}

impl Cast {
    /// The value of an instance: `@name`, `@@name`. Some names of the first kind stand for fixed responses.
    pub(crate) fn address(&mut self, name: &str) -> String {
        let mut other =
            |start: fn(&str) -> String| self.others.entry(name.to_owned()).or_insert_with(|| start(name)).clone();
        match name {
            "@dead" => other(|_| free_address().to_string()),
            "@cut" => other(|_| Raw::answering("", Then::Close).instance()),
            "@silent" => other(|_| Raw::answering("", Then::Hang).instance()),
            _ if name.starts_with("@@") => other(|name| echo_tcp(Box::leak(name[2..].into())).to_string()),
            _ => self.backend(&name[1..]).instance(),
        }
    }

    /// The backend of this name.
    pub(crate) fn backend(&mut self, name: &str) -> &Backend {
        self.backends.entry(name.to_owned()).or_insert_with(|| Backend::naming(name))
    }

    /// The number of requests that all of them have received.
    pub(crate) fn whole(&self) -> usize {
        self.backends.values().map(Backend::whole).sum()
    }
}

/// A running engine.
pub(crate) struct Scene {
    pub(crate) engine: Engine,
    running: Pointsman,
    site: Rc<Site>,
    ports: HashMap<String, u16>,
    marks: u32,
    changed: bool,
    held: Vec<Connection>,
}

impl Scene {
    /// With its own store.
    pub(crate) fn new(engine: Engine) -> Self {
        Self::on(engine, Rc::new(Site::new()))
    }

    /// With a store that may be shared.
    pub(crate) fn on(engine: Engine, site: Rc<Site>) -> Self {
        let state = site.home().join(format!("state-{}", engine.name()));
        // All keys are removed from time to time, and meant to be.
        let running = Launch::engine(engine).store(&site).state(state).args(&["--guard", "off"]).start();
        running.wait_ready();
        Self { engine, running, site, ports: HashMap::new(), marks: 0, changed: false, held: Vec::new() }
    }

    /// Removes every key.
    pub(crate) fn clear(&mut self) {
        self.held.clear();
        self.site.clear();
        self.changed = true;
    }

    pub(crate) fn put(&mut self, key: &str, value: &str) {
        self.site.put(key, value);
        self.changed = true;
    }

    pub(crate) fn remove(&mut self, key: &str) {
        self.site.remove(key);
        self.changed = true;
    }

    /// The port for `%name`.
    pub(crate) fn port(&mut self, name: &str) -> u16 {
        *self.ports.entry(name.to_owned()).or_insert_with(free_port)
    }

    /// Waits until every key written so far is served.
    #[track_caller]
    pub(crate) fn settle(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        // Twice: the first may be seen while a new folder is being read, before its siblings are.
        for _ in 0..2 {
            self.marks += 1;
            self.wait_mark(&mark(&self.site, self.marks));
        }
    }

    /// Waits until the table with this mark is served.
    #[track_caller]
    pub(crate) fn wait_mark(&self, mark: &str) {
        wait(&format!("{mark} in the table of {:?}", self.engine), || {
            let page = self.running.admin_page("/api/table");
            page.contains(mark) && self.is_applied(&page)
        });
    }

    fn is_applied(&self, table: &str) -> bool {
        let table: serde_json::Value = serde_json::from_str(table).expect("JSON");
        let revision = table["revision"].as_f64().expect("a number");
        self.running.metric("pointsman_table_applied_revision", &[]) >= revision
    }

    /// Sends a request on one connection, as often as the row says.
    pub(crate) fn ask(&mut self, ask: &Ask) -> io::Result<Vec<Answer>> {
        let mut open = None;
        let mut answers = Vec::new();
        for number in 0..ask.times {
            let connection = match &mut open {
                Some(connection) => connection,
                none => none.insert(Connection::try_open(self.running.http)?),
            };
            connection.send(ask.message(number))?;
            let response = connection.response(&ask.method)?;
            if response.closes() {
                open = None;
            }
            answers.push(Answer::of(response, self.running.http.port()));
        }
        Ok(answers)
    }

    /// Sends a request and keeps it open until the section ends.
    pub(crate) fn hold(&mut self, ask: &Ask, cast: &Cast) {
        let before = cast.whole();
        let mut connection = self.running.connect();
        connection.send(ask.message(0)).expect("open");
        self.held.push(connection);
        wait("the request to be under way", || cast.whole() > before);
    }

    /// Connects, sends, and reads to the end.
    pub(crate) fn connect(&mut self, port: &str, send: &str) -> String {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port(port)));
        let Ok(stream) = TcpStream::connect(address) else { return "refused".to_owned() };
        match through(stream, send) {
            Ok(text) if !text.is_empty() => text,
            _ => "closed".to_owned(),
        }
    }
}

/// Writes a key that marks a table without other effect: its host gets no requests, and it has no instance.
pub(crate) fn mark(site: &Site, number: u32) -> String {
    let mark = format!("mark-{number}.invalid");
    site.put("services/zz-mark/domain", &mark);
    mark
}

fn through(mut stream: TcpStream, send: &str) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(send.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

impl Ask {
    /// The bytes of the `number`th request.
    pub(crate) fn message(&self, number: usize) -> String {
        let count = |text: &str| text.replace("{n}", &number.to_string());
        let mut head = format!("{} {} HTTP/{}\r\n", self.method, count(&self.target), self.version);
        if let Some(host) = &self.host {
            head += &format!("Host: {}\r\n", count(host));
        }
        head += "X-Tell: yes\r\n";
        for header in &self.headers {
            head += &format!("{}\r\n", count(header));
        }
        match &self.body {
            Body::None => head + "\r\n",
            Body::Sized(body) => head + &format!("Content-Length: {}\r\n\r\n{body}", body.len()),
            Body::Chunked(body) => {
                head + &format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
            }
        }
    }
}
