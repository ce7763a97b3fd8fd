//! Files and streams that lines are written to: a line is written whole, or later, or not at all. Waits for its reader,
//! so that it needs a thread of its own.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pointsman_engine::access::LogPage;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::super::stream::piece;
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
    /// Opens a destination. A file must be there, or made; a FIFO that nobody reads yet is opened later.
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
                let file = match append_to(path) {
                    Ok(file) => Some(file),
                    Err(error) if is_unread(&error) => None,
                    Err(error) => return Err(error),
                };
                Ok(Self::Bytes(Bytes { path: Some(path.clone()), file, torn: Vec::new() }))
            }
            LogTarget::Stdout => stream(&io::stdout()),
            LogTarget::Stderr => stream(&io::stderr()),
            LogTarget::Udp(_) | LogTarget::Tcp(_) | LogTarget::Unix(_) => {
                Ok(Self::Syslog(Syslog::new(target.clone(), form)))
            }
        }
    }

    /// Why it could not be opened yet.
    pub(super) fn missing(&self) -> Option<io::Error> {
        match self {
            Self::Bytes(Bytes { file: None, .. }) => Some(unread()),
            Self::Bytes(_) | Self::Syslog(_) => None,
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

/// Opens a file. Never waits: the open of a FIFO without a reader would.
fn append_to(path: &Path) -> io::Result<File> {
    let at_once = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().append(true).create(true).mode(MODE).custom_flags(at_once).open(path);
    let file = file.map_err(|error| if is_fifo(path) && is_no_device(&error) { unread() } else { error })?;
    // Writes wait.
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

fn is_fifo(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.file_type().is_fifo())
}

/// What the open of a FIFO without a reader says (fifo(7)).
fn is_no_device(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NXIO.raw_os_error())
}

fn unread() -> io::Error {
    io::Error::new(ErrorKind::NotConnected, "nobody reads this FIFO")
}

fn is_unread(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotConnected
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
        let is_stream = self.path.is_none();
        let Some(file) = &mut self.file else { return Ok(()) };
        let torn = std::mem::take(&mut self.torn);
        if let Err((written, error)) = write_on(file, &torn, is_stream) {
            self.torn = torn[written..].to_vec();
            return Err(unwritten(error, text));
        }
        match write_on(file, text, is_stream) {
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

/// Writes all of it, however long its reader takes, or says how much. A stream may have other writers: this program's log.
fn write_on(file: &mut File, text: &[u8], is_stream: bool) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while let Some(left @ [_, ..]) = text.get(written..) {
        match file.write(if is_stream { piece(left) } else { left }) {
            Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(FULL),
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_fifo_without_a_reader_is_opened_once_it_has_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let mut sink = Sink::open(&LogTarget::File(path.clone()), SyslogForm::default()).unwrap();
        assert!(sink.missing().is_some());
        let page = LogPage { text: b"one\n".as_slice().into(), lines: 1, turn: 0 };
        let unwritten = sink.write(&page).unwrap_err();
        assert_eq!((unwritten.lines, &*unwritten.error.to_string()), (1, "nobody reads this FIFO"));
        let waits = OFlags::NONBLOCK.bits().cast_signed();
        let mut reader = File::options().read(true).custom_flags(waits).open(&path).unwrap();
        assert!(sink.write(&page).is_ok() && sink.missing().is_none());
        let mut text = [0; 8];
        assert_eq!(reader.read(&mut text).unwrap(), 4);
        assert!(Sink::open(&LogTarget::File(folder.path().into()), SyslogForm::default()).is_err());
    }
}
