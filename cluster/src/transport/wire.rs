//! Frames over whatever carries bytes.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::codec;
use crate::config::COMMAND_BYTES_MAX;

/// The largest frame. One entry must fit with room to spare; several entries are cut to a megabyte.
pub(crate) const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The largest frame before a peer is known.
const HELLO_BYTES_MAX: usize = 1024;

const _: () = assert!(COMMAND_BYTES_MAX * 2 <= FRAME_BYTES_MAX, "one command must fit a frame");

/// Something to speak over: a TLS or plain TCP connection, upgraded.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) type Wire = Framed<Box<dyn Io>, LengthDelimitedCodec>;

/// A connection on which only the greeting fits.
pub(crate) fn greeting(io: Box<dyn Io>) -> Wire {
    LengthDelimitedCodec::builder().max_frame_length(HELLO_BYTES_MAX).new_framed(io)
}

/// The same connection, once the peer is known.
pub(crate) fn open(mut wire: Wire) -> Wire {
    wire.codec_mut().set_max_frame_length(FRAME_BYTES_MAX);
    wire
}

/// Sends one message.
pub(crate) async fn send<T: Serialize>(wire: &mut Wire, message: &T) -> io::Result<()> {
    wire.send(frame(message)).await
}

/// The next message, or an error; also when the peer has closed.
pub(crate) async fn receive<T: DeserializeOwned>(wire: &mut Wire) -> io::Result<T> {
    let frame = wire.next().await.ok_or(io::ErrorKind::UnexpectedEof)??;
    read(&frame)
}

/// The next message, within a time.
pub(crate) async fn receive_within<T: DeserializeOwned>(
    wire: &mut Wire,
    time: Duration,
) -> io::Result<T> {
    tokio::time::timeout(time, receive(wire)).await.map_err(io::Error::other)?
}

pub(crate) fn frame<T: Serialize>(message: &T) -> Bytes {
    codec::encode(message).into()
}

pub(crate) fn read<T: DeserializeOwned>(frame: &[u8]) -> io::Result<T> {
    codec::decode(frame).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
