//! Frames on a Unix socket: a length of 4 bytes, little endian, and so many bytes; descriptors travel beside them
//! (`SCM_RIGHTS` of unix(7)). Knows no message.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Descriptors with one frame; the kernel allows 253 (`SCM_MAX_FD`).
pub(super) const MOST_DESCRIPTORS: usize = 64;
/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

/// One side of a conversation.
#[derive(Debug)]
pub(super) struct FrameStream {
    stream: UnixStream,
    /// Read, and not a whole frame yet.
    read: Vec<u8>,
    /// Received, and not taken yet.
    descriptors: VecDeque<OwnedFd>,
}

impl FrameStream {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, read: Vec::new(), descriptors: VecDeque::new() }
    }

    /// Sends a message.
    pub(super) async fn say(&self, message: &impl Serialize) -> io::Result<()> {
        self.send(&serde_json::to_vec(message)?, &[]).await
    }

    /// The next message, of at most so many bytes; `None`: the other side has closed. May be dropped and called again.
    pub(super) async fn hear<T: DeserializeOwned>(&mut self, most: usize) -> io::Result<Option<T>> {
        match self.receive(most).await? {
            Some(frame) => Ok(Some(serde_json::from_slice(&frame)?)),
            None => Ok(None),
        }
    }

    /// Sends a frame, with [`MOST_DESCRIPTORS`] at most.
    pub(super) async fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let all = [&length.to_le_bytes()[..], bytes].concat();
        let (mut sent, mut with) = (0, descriptors);
        while sent < all.len() {
            let some = || send_some(&self.stream, &all[sent..], with);
            sent += self.stream.async_io(Interest::WRITABLE, some).await?;
            with = &[];
        }
        Ok(())
    }

    /// The next frame; `None`: the other side has closed. May be dropped and called again.
    pub(super) async fn receive(&mut self, most: usize) -> io::Result<Option<Vec<u8>>> {
        let Self { stream, read, descriptors } = self;
        loop {
            if let Some(frame) = cut(read, most)? {
                return Ok(Some(frame));
            }
            match stream.async_io(Interest::READABLE, || receive_some(stream, read, descriptors)).await? {
                0 if read.is_empty() => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        }
    }

    /// The next descriptor that came with the frames so far.
    pub(super) fn descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }
}

/// Takes the first frame off.
fn cut(read: &mut Vec<u8>, most: usize) -> io::Result<Option<Vec<u8>>> {
    let Some((length, _)) = read.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes; {most} at most")));
    }
    if read.len() < 4 + length {
        return Ok(None);
    }
    let rest = read.split_off(4 + length);
    Ok(Some(std::mem::replace(read, rest).split_off(4)))
}

fn send_some(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

fn receive_some(stream: &UnixStream, read: &mut Vec<u8>, descriptors: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut chunk = vec![0; CHUNK];
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut chunk)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other("this process may not have so many open files (ulimit -n)"));
    }
    read.extend_from_slice(&chunk[..received.bytes]);
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    use super::*;

    #[tokio::test]
    async fn frames_and_descriptors_arrive_in_order() {
        let (one, other) = UnixStream::pair().unwrap();
        let (sender, mut receiver) = (FrameStream::new(one), FrameStream::new(other));
        let sockets: Vec<_> = (0..70).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let large = vec![7; 1 << 20];
        let sending = async {
            sender.send(b"first", &[]).await.unwrap();
            for batch in sockets.chunks(MOST_DESCRIPTORS) {
                sender.send(b"sockets", &batch.iter().map(AsFd::as_fd).collect::<Vec<_>>()).await.unwrap();
            }
            sender.send(&large, &[]).await.unwrap();
        };
        let receiving = async {
            for expected in [&b"first"[..], b"sockets", b"sockets", &large] {
                assert_eq!(receiver.receive(1 << 20).await.unwrap().unwrap(), expected);
            }
        };
        tokio::join!(sending, receiving);
        drop(sender);
        assert!(receiver.receive(9).await.unwrap().is_none());
        for socket in sockets {
            let received = TcpListener::from(receiver.descriptor().unwrap());
            assert_eq!(received.local_addr().unwrap(), socket.local_addr().unwrap());
        }
        assert!(receiver.descriptor().is_none());
    }

    #[tokio::test]
    async fn a_message_that_is_too_long_or_cut_short_is_an_error() {
        let (one, other) = UnixStream::pair().unwrap();
        let (sender, mut receiver) = (FrameStream::new(one), FrameStream::new(other));
        sender.send(&[0; 100], &[]).await.unwrap();
        assert_eq!(receiver.receive(99).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let (one, other) = UnixStream::pair().unwrap();
        let mut receiver = FrameStream::new(other);
        one.try_write(&[9, 0, 0, 0, 1]).unwrap();
        drop(one);
        assert_eq!(receiver.receive(99).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
