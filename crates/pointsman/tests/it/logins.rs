//! Logins that hold for a connection to an instance (NTLM, Negotiate) never let another client in.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use crate::harness::{Connection, Pointsman, Site, wait};

/// An instance that lets a connection in for whoever has logged in on it, and says who that is.
fn instance(scheme: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of loopback");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || drop(serve(stream, scheme)));
        }
    });
    address
}

fn serve(stream: TcpStream, scheme: &str) -> io::Result<()> {
    let mut output = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines();
    let mut user: Option<String> = None;
    while let Some(first) = lines.next() {
        first?;
        while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("authorization") {
                user = value.trim().strip_prefix(scheme).map(|user| user.trim().to_owned());
            }
        }
        match &user {
            Some(user) => write!(output, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{user}", user.len())?,
            None => {
                write!(output, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {scheme}\r\nContent-Length: 0\r\n\r\n")?;
            }
        }
    }
    Ok(())
}

/// Who the instance takes this client for.
fn user(client: &mut Connection) -> Option<String> {
    let answer = client.request("GET", "a.test", "/").expect("an answer");
    (answer.status == 200).then(|| answer.text())
}

fn log_in(client: &mut Connection, scheme: &str, name: &str) {
    client.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\nAuthorization: {scheme} {name}\r\n\r\n")).expect("open");
    assert_eq!(client.response("GET").expect("an answer").text(), name);
}

fn check(scheme: &'static str) {
    let address = instance(scheme).to_string();
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &address)]);
    let running = Pointsman::serving(&site);
    let mut clients: Vec<_> = ["anna", "bert"].map(|name| (running.connect(), name)).into();
    for (client, name) in &mut clients {
        assert_eq!(user(client), None, "{name} is asked to log in");
        log_in(client, scheme, name);
    }
    for _ in 0..3 {
        for (client, name) in &mut clients {
            assert_eq!(user(client).as_deref(), Some(*name));
        }
        // More than there are workers, and other connections to be reused.
        for _ in 0..8 {
            assert_eq!(user(&mut running.connect()), None, "let in by the login of another");
        }
    }
    drop(clients);
    wait("both to be gone", || running.metric("pointsman_connections_open", &[]) == 0.0);
    for _ in 0..8 {
        assert_eq!(user(&mut running.connect()), None, "let in by the login of one that left");
    }
}

#[test]
fn a_login_by_ntlm_is_for_its_client_alone() {
    check("NTLM");
}

#[test]
fn a_login_by_negotiate_is_for_its_client_alone() {
    check("Negotiate");
}
