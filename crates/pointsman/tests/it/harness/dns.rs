//! A name server in this process (RFC 1035): answers with what the test says, lies, says that there is no such name, or
//! says nothing; and counts what it is asked. Answers that are too long for UDP are given over TCP.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What becomes of a question.
#[derive(Clone, Debug)]
pub(crate) enum Zone {
    /// These addresses, for so many seconds.
    At(Vec<Ipv4Addr>, u32),
    /// These SRV records, for so many seconds: priority, weight, port and target (RFC 2782).
    Records(Vec<(u16, u16, u16, &'static str)>, u32),
    /// TXT records (§3.3.14): the name of each file of this folder.
    Texts(PathBuf),
    /// What another server answers.
    Of(SocketAddr),
    /// Addresses, after a while.
    Late(Vec<Ipv4Addr>, Duration),
    /// No answer at all.
    Silent,
    /// The server will not tell (REFUSED).
    Refused,
    /// These addresses, in answers that are none to the question.
    Lie(Lie, Vec<Ipv4Addr>),
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lie {
    /// It has another number than the question.
    Number,
    /// It is to a question for another name.
    Question,
    /// Its records are those of another name.
    Owner,
    /// Its records are of another type: TXT (§3.3.14).
    Kind,
}

/// The longest answer over UDP, bytes: what resolvers say that they take.
const LONGEST: usize = 1_232;

/// A running name server. Names that it does not know do not exist.
#[derive(Clone)]
pub(crate) struct NameServer {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    zones: HashMap<String, Zone>,
    asked: HashMap<String, usize>,
    /// Questions that came over TCP.
    over_tcp: usize,
}

impl NameServer {
    /// On loopback, with these names.
    pub(crate) fn with(names: &[(&str, Zone)]) -> Self {
        let (socket, listener) = std::iter::repeat_with(ports).find_map(Result::ok).expect("a port of both kinds");
        let server = Self { address: socket.local_addr().expect("bound"), shared: Arc::default() };
        names.iter().for_each(|(name, zone)| server.set(name, zone.clone()));
        let (serving, talking) = (server.clone(), server.clone());
        std::thread::spawn(move || serving.serve(&socket));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let talking = talking.clone();
                std::thread::spawn(move || drop(talking.talk(stream)));
            }
        });
        server
    }

    /// How many questions came over TCP.
    pub(crate) fn over_tcp(&self) -> usize {
        self.lock().over_tcp
    }

    /// `--resolver`.
    pub(crate) fn flag(&self) -> String {
        self.address.to_string()
    }

    /// What becomes of questions for this name from now on.
    pub(crate) fn set(&self, name: &str, zone: Zone) {
        self.lock().zones.insert(name.to_owned(), zone);
    }

    /// From now on there is no such name.
    pub(crate) fn forget(&self, name: &str) {
        self.lock().zones.remove(name);
    }

    /// How often it was asked for names that end like this.
    pub(crate) fn asked(&self, end: &str) -> usize {
        self.lock().asked.iter().filter(|(name, _)| name.ends_with(end)).map(|(_, count)| count).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().expect("no panic while held")
    }

    fn serve(&self, socket: &UdpSocket) {
        let mut buffer = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let Some((mut answer, after)) = self.answer(&buffer[..length]) else { continue };
            if answer.len() > LONGEST {
                // The header alone, with the bit that says so (TC) and no answers.
                answer.truncate(12 + question_length(&buffer[..length]));
                answer[2] |= 2;
                answer[6..8].fill(0);
            }
            if after.is_zero() {
                let _ = socket.send_to(&answer, peer);
            } else {
                let socket = socket.try_clone().expect("a descriptor");
                std::thread::spawn(move || {
                    std::thread::sleep(after);
                    let _ = socket.send_to(&answer, peer);
                });
            }
        }
    }

    /// One connection: messages, each after its length (§4.2.2).
    fn talk(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut question)?;
            self.lock().over_tcp += 1;
            let Some((answer, after)) = self.answer(&question) else { return Ok(()) };
            std::thread::sleep(after);
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())?;
        }
    }

    /// The answer, and after what time it is sent.
    fn answer(&self, question: &[u8]) -> Option<(Vec<u8>, Duration)> {
        let (name, end) = name(question)?;
        let kind = question.get(end..end + 2)?;
        let wants_v4 = kind == [0, 1];
        let mut shared = self.lock();
        *shared.asked.entry(name.clone()).or_default() += 1;
        let (code, addresses, ttl, after) = match shared.zones.get(&name) {
            Some(Zone::Records(records, ttl)) => {
                let data: Vec<_> = records.iter().filter(|_| kind == [0, 33]).map(service).collect();
                return Some((reply(question, end, 0, (kind, *ttl), &data)?, Duration::ZERO));
            }
            Some(Zone::Texts(folder)) => {
                let files = std::fs::read_dir(folder).ok()?.filter_map(Result::ok).filter(|_| kind == [0, 16]);
                let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
                let data: Vec<_> = names.map(|name| [&[name.len() as u8][..], name.as_bytes()].concat()).collect();
                return Some((reply(question, end, 0, (kind, 0), &data)?, Duration::ZERO));
            }
            Some(Zone::Of(other)) => return Some((passed_on(question, *other)?, Duration::ZERO)),
            Some(Zone::Lie(lie, addresses)) => {
                let data: Vec<_> = addresses.iter().map(|address| address.octets().to_vec()).collect();
                return Some((lied(*lie, question, end, &data)?, Duration::ZERO));
            }
            Some(Zone::Silent) => return None,
            Some(Zone::Refused) => (5, Vec::new(), 0, Duration::ZERO),
            Some(Zone::Late(addresses, after)) if wants_v4 => (0, addresses.clone(), 1, *after),
            Some(Zone::At(addresses, ttl)) if wants_v4 => (0, addresses.clone(), *ttl, Duration::ZERO),
            Some(Zone::At(..)) => (0, Vec::new(), 0, Duration::ZERO),
            Some(Zone::Late(_, after)) => (0, Vec::new(), 0, *after),
            None => (3, Vec::new(), 0, Duration::ZERO),
        };
        let data: Vec<_> = addresses.iter().map(|address| address.octets().to_vec()).collect();
        Some((reply(question, end, code, (&[0, 1], ttl), &data)?, after))
    }
}

/// The answer of another server to this question.
fn passed_on(question: &[u8], other: SocketAddr) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    socket.send_to(question, other).ok()?;
    let mut answer = vec![0; 1500];
    let length = socket.recv(&mut answer).ok()?;
    answer.truncate(length);
    Some(answer)
}

/// The message (§4.1): the question, which ends there, and an answer for each of these data.
fn reply(question: &[u8], end: usize, code: u8, (kind, ttl): (&[u8], u32), data: &[Vec<u8>]) -> Option<Vec<u8>> {
    // The header (§4.1.1): a response, recursion available, one question, so many answers.
    let mut answer = question.get(..2)?.to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1]);
    answer.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
    answer.extend([0; 4]);
    answer.extend(question.get(12..end + 4)?);
    for data in data {
        answer.extend([&[0xc0, 12], kind, &[0, 1], &ttl.to_be_bytes()].concat());
        answer.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        answer.extend(data);
    }
    Some(answer)
}

/// A socket and a listener at the same port.
fn ports() -> io::Result<(UdpSocket, TcpListener)> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let listener = TcpListener::bind(socket.local_addr()?)?;
    Ok((socket, listener))
}

/// How long the question is, without the header.
fn question_length(question: &[u8]) -> usize {
    name(question).map_or(0, |(_, end)| end + 4 - 12)
}

/// An answer that is none to this question.
fn lied(lie: Lie, question: &[u8], end: usize, data: &[Vec<u8>]) -> Option<Vec<u8>> {
    let texts: Vec<_> = data.iter().map(|data| [&[4][..], data].concat()).collect();
    let mut answer = match lie {
        Lie::Kind => reply(question, end, 0, (&[0, 16], 1), &texts)?,
        Lie::Number | Lie::Question | Lie::Owner => reply(question, end, 0, (&[0, 1], 1), data)?,
    };
    match lie {
        Lie::Number => answer[0] ^= 0xff,
        // The first letter of the name.
        Lie::Question => answer[13] ^= 1,
        Lie::Owner => {
            // The pointer to the name becomes one to what follows its first label: `test` for `web.test`.
            let records = answer.len() - data.len() * 16;
            let parent = 13 + answer[12];
            (records..answer.len()).step_by(16).for_each(|record| answer[record + 1] = parent);
        }
        Lie::Kind => {}
    }
    Some(answer)
}

/// The data of a SRV record.
fn service((priority, weight, port, target): &(u16, u16, u16, &str)) -> Vec<u8> {
    let mut data: Vec<u8> = [priority, weight, port].iter().flat_map(|number| number.to_be_bytes()).collect();
    for label in target.split('.') {
        data.push(u8::try_from(label.len()).expect("a short label"));
        data.extend(label.as_bytes());
    }
    data.push(0);
    data
}

/// The name in a question, without the dot at its end, and where it ends.
fn name(question: &[u8]) -> Option<(String, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join(".").to_ascii_lowercase(), at));
        }
        labels.push(String::from_utf8_lossy(question.get(at..at + length)?).into_owned());
        at += length;
    }
}
