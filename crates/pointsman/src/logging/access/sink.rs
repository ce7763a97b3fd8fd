//! Files and streams that lines are written to: a line is written whole, or later, or not at all. Waits for its reader,
//! so that it needs a thread of its own.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pointsman_engine::access::LogPage;

use super::syslog::Syslog;
use super::target::{LogTarget, SyslogForm, Unwritten};

/// Who may read a new log: its owner, and the owner's group.
const MODE: u32 = 0o640;
/// The pause before the next attempt to write to a full stream that somebody has made non-blocking.
const FULL: Duration = Duration::from_millis(20);

/// An open destination.
#[derive(Debug)]
pub(super) enum Sink {
    Bytes(Bytes),
    Syslog(Syslog),
}

impl Sink {
    /// Opens a destination. A file must be there, or made.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open(target: &LogTarget, form: SyslogForm) -> io::Result<Self> {
        let stream = |descriptor: &dyn AsFd| -> io::Result<Self> {
            let file = File::from(descriptor.as_fd().try_clone_to_owned()?);
            Ok(Self::Bytes(Bytes { path: None, file: Some(file), torn: Vec::new() }))
        };
        match target {
            LogTarget::File(path) => {
                let file = append_to(path)?;
                Ok(Self::Bytes(Bytes { path: Some(path.clone()), file: Some(file), torn: Vec::new() }))
            }
            LogTarget::Stdout => stream(&io::stdout()),
            LogTarget::Stderr => stream(&io::stderr()),
            LogTarget::Udp(_) | LogTarget::Tcp(_) | LogTarget::Unix(_) => {
                Ok(Self::Syslog(Syslog::new(target.clone(), form)))
            }
        }
    }

    /// Closes it, to be opened again for the next lines: a file may have another name by now.
    pub(super) fn close(&mut self) {
        match self {
            Self::Bytes(bytes) => bytes.close(),
            Self::Syslog(syslog) => syslog.close(),
        }
    }

    /// Writes lines.
    ///
    /// # Errors
    /// Some were not written.
    pub(super) fn write(&mut self, page: &LogPage) -> Result<(), Unwritten> {
        match self {
            Self::Bytes(bytes) => bytes.write(&page.text),
            Self::Syslog(syslog) => syslog.write(&page.text),
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).mode(MODE).open(path)
}

/// A file, or a stream that this process was given.
#[derive(Debug)]
pub(super) struct Bytes {
    /// Of a file.
    path: Option<PathBuf>,
    file: Option<File>,
    /// The rest of a line whose beginning is written.
    torn: Vec<u8>,
}

impl Bytes {
    fn close(&mut self) {
        if self.path.is_some() {
            if let Some(file) = &mut self.file {
                // What could not be written by now is lost with this file.
                let _ = file.write_all(&self.torn);
            }
            self.torn.clear();
            self.file = None;
        }
    }

    fn write(&mut self, text: &[u8]) -> Result<(), Unwritten> {
        let unwritten = |error, left: &[u8]| Unwritten { lines: lines(left), error };
        if let (None, Some(path)) = (&self.file, &self.path) {
            self.file = Some(append_to(path).map_err(|error| unwritten(error, text))?);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let torn = std::mem::take(&mut self.torn);
        if let Err((written, error)) = write_on(file, &torn) {
            self.torn = torn[written..].to_vec();
            return Err(unwritten(error, text));
        }
        match write_on(file, text) {
            Ok(()) => Ok(()),
            Err((written, error)) => {
                let (before, left) = text.split_at(written);
                let is_torn = !matches!(before.last(), None | Some(b'\n'));
                let end = left.iter().position(|byte| *byte == b'\n').map_or(left.len(), |end| end + 1);
                let (torn, left) = left.split_at(if is_torn { end } else { 0 });
                self.torn = torn.to_vec();
                Err(unwritten(error, left))
            }
        }
    }
}

fn lines(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Writes all of it, however long its reader takes, or says how much.
fn write_on(file: &mut File, text: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while let Some(left @ [_, ..]) = text.get(written..) {
        match file.write(left) {
            Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(FULL),
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}
