//! `pointsman top`: in a terminal that a script reads as an operator would, and as one frame in a pipe.

use std::process::Command;

use crate::harness::{Backend, Launch, Pointsman, Process, Site, engine, finish, free_address, program_folder, run};
use crate::page;

/// What scripts begin with: a terminal, of which so much is understood as the program uses.
const PRELUDE: &str = r#"
import codecs, fcntl, os, pty, re, select, signal, struct, sys, termios, time
program, admin, home = sys.argv[1:4]
def say(*words): print(*words, flush=True)
class Terminal:
    def __init__(self, columns, rows, **variables):
        self.master, self.slave = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(self.slave)
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
            for number in range(3): os.dup2(self.slave, number)
            os.execve(program, [program, 'top', '--admin', admin], {'TERM': 'xterm', **variables})
        self.all, self.rest, self.decode = b'', '', codecs.getincrementaldecoder('utf-8')().decode
    def resize(self, columns, rows):
        self.columns, self.rows, self.at = columns, rows, (0, 0)
        self.lines = [[' '] * columns for _ in range(rows)]
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
    def read(self):
        if not select.select([self.master], [], [], 0.05)[0]: return
        data = os.read(self.master, 1 << 16)
        self.all += data
        text = self.rest + self.decode(data)
        while text:
            escape = re.match(r'\x1b\[([?0-9;]*)([A-Za-z])', text)
            if text[0] == '\x1b' and not escape: break
            if escape: self.command(*escape.groups()); text = text[escape.end():]; continue
            assert text[0] >= ' ', repr(text[:20])
            row, column = self.at
            if row < self.rows and column < self.columns: self.lines[row][column] = text[0]
            self.at, text = (row, column + 1), text[1:]
        self.rest = text
    def command(self, words, name):
        if name == 'H':
            row, _, column = words.partition(';')
            self.at = (int(row or 1) - 1, int(column or 1) - 1)
        elif name == 'J': self.lines = [[' '] * self.columns for _ in range(self.rows)]
        else: assert name in 'mhl', (words, name)
    def text(self): return '\n'.join(''.join(line).rstrip() for line in self.lines)
    def until(self, *texts, lacks=()):
        until = time.monotonic() + 30
        while not all(text in self.text() for text in texts) or any(text in self.text() for text in lacks):
            assert time.monotonic() < until, f'{texts} and not {lacks}, in\n{self.text()}'
            self.read()
    def press(self, keys): os.write(self.master, keys.encode())
    def ended(self):
        until = time.monotonic() + 30
        while True:
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid: break
            assert time.monotonic() < until, 'it does not end'
        while select.select([self.master], [], [], 0.1)[0]: self.read()
        assert self.all.endswith(b'\x1b[?1049l'), self.all[-80:]
        assert self.all.rindex(b'\x1b[?25h') > self.all.rindex(b'\x1b[?25l'), 'the cursor is hidden'
        assert termios.tcgetattr(self.slave) == self.before, 'the terminal is still raw'
        return os.waitstatus_to_exitcode(status)
"#;

fn script(admin: std::net::SocketAddr, site: &Site, script: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg("-c").arg(format!("{PRELUDE}{script}"));
    command.arg(program_folder().join("pointsman")).arg(admin.to_string()).arg(site.home());
    command
}

/// A problem whose value would command a terminal, and what is beside it.
fn hurting() -> (Site, Pointsman, Backend) {
    let scene = page::hurting("\u{1b}]0;evil\u{7}");
    scene.1.wait_listed("bad_value", &["services/mail/port"]);
    scene.1.wait_metric_of_lost();
    scene
}

impl Pointsman {
    /// Waits until the instance that nobody is at is down.
    #[track_caller]
    fn wait_metric_of_lost(&self) {
        crate::harness::wait("the lost instance to be down", || {
            self.admin_page("/metrics")
                .contains("pointsman_instance_up{protocol=\"http\",service=\"api\",instance=\"lost\"} 0")
        });
    }
}

#[test]
fn in_a_terminal() {
    let (site, running, _backend) = hurting();
    let why = if engine().differs("explained-keys") { "down" } else { "its check connection failed" };
    let all = format!(
        r#"
one = Terminal(80, 24)
one.until('shop.test', '■ api', '● live', '2 Attention', '\\u001b]0;evil\\u0007', 'down for')
assert b'\x1b]0;' not in one.all and b'\x1b[?1049h' in one.all, one.all
lines = one.text().split('\n')
where = lambda text: next(i for i, line in enumerate(lines) if line.lstrip().startswith(text))
assert where('■ api') < where('▲ mail') < where('● shop'), one.text()
one.press('/API')
one.until('/API▏   1 of 3', lacks=['● shop'])
one.press('\r')
one.until('1 of 3: API')
one.press('\r')
one.until('lost', 'Instances', 'Settings', '{why}')
one.press('\x1b')
one.until('1 of 3: API')
one.press('\x1b')
one.until('● shop', '■ api')
one.press('3')
one.until('services/mail/port', 'started with')
one.press('5')
one.until('(this one)', 'revision served')
one.press('?')
one.until('clear the filter')
one.press('?1p')
one.until('▲ paused')
one.press('p')
one.until('● live')
one.resize(40, 10)
one.until('req/s', '■ api', lacks=['Needs attention'])
one.resize(160, 50)
one.until('Needs attention', 'What changed', 'Traffic')
one.press('q')
say('q', one.ended())
for name, end in [('ctrl-c', lambda t: t.press('\x03')), ('TERM', lambda t: os.kill(t.pid, signal.SIGTERM)), ('HUP', lambda t: os.kill(t.pid, signal.SIGHUP))]:
    one = Terminal(80, 24, NO_COLOR='1' if name == 'TERM' else '')
    one.until('● live', '■ api')
    has_color = re.search(rb'\x1b\[[0-9;]*3[0-7]m', one.all) is not None
    end(one)
    say(name, one.ended(), 'colours' if has_color else 'none')
"#
    );
    let said = finish(&mut script(running.admin, &site, &all)).ok();
    assert_eq!(said, "q 0\nctrl-c 0 colours\nTERM 0 none\nHUP 0 colours\n");
}

#[test]
fn the_balancer_goes_and_comes_back() {
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", "127.0.0.1:9")]);
    let admin = free_address();
    let start = || {
        let (admin, engine) = (admin.to_string(), engine().name());
        let arguments = ["--http", "127.0.0.1:0", "--admin", &admin, "--engine", engine];
        let running = Launch::bare().args(&arguments).store(&site).start();
        running.wait_ready();
        running
    };
    // Nobody is there at first.
    let all = "
one = Terminal(100, 20)
one.until('does not answer', 'Trying again')
say('asks for a balancer')
one.until('● live', 'a.test')
say('asks for none')
one.until('does not answer', 'Figures of', 'a.test')
say('asks for another')
one.until('● live', 'a.test', lacks=['does not answer'])
one.press('q')
say('done', one.ended())
";
    let mut reader = Process::start(&mut script(admin, &site, all));
    reader.wait_log("asks for a balancer");
    let mut running = start();
    reader.wait_log("asks for none");
    running.end();
    reader.wait_log("asks for another");
    let _running = start();
    reader.wait_log("done 0");
}

#[test]
fn in_a_pipe_it_is_one_frame() {
    let (_site, running, _backend) = hurting();
    let admin = running.admin.to_string();
    for words in [&["top", "--admin", &admin][..], &["top", "--once", "--admin", &admin]] {
        let text = run(words).ok();
        for part in
            ["req/s", "■ api", "▲ mail", "● shop", "Needs attention", "services/mail/port", "\\u001b]0;evil\\u0007"]
        {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
        assert!(!text.contains('\u{1b}') && !text.contains("q quit"), "{text}");
        assert!(text.lines().count() <= 40 && text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
}

#[test]
fn nobody_there_is_an_error_in_a_pipe() {
    let admin = free_address().to_string();
    let finished = run(&["top", "--once", "--admin", &admin]);
    assert_eq!(finished.code, Some(2));
    assert!(
        finished.stderr.contains(&format!("--admin: asked the balancer on {admin}: connecting")),
        "{}",
        finished.stderr
    );
    let off = run(&["top", "--admin", "off"]);
    assert!(off.code == Some(2) && off.stderr.contains("--admin 127.0.0.1:8404"), "{}", off.stderr);
    // Something else than a balancer.
    let other = Backend::naming("one");
    let finished = run(&["top", "--once", "--admin", &other.address().to_string()]);
    assert!(finished.code == Some(2) && finished.stderr.contains("not a balancer"), "{}", finished.stderr);
}
