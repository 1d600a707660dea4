//! Entries to a follower: many requests on their way, answers in the order of the requests.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, Stream, StreamExt, stream};
use openraft::errors::{NetworkError, RPCError};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::message::{Append, Appended};
use super::wire::{self, Wire};
use crate::form::LogId;
use crate::types::TypeConfig;

type Sink = SplitSink<Wire, Bytes>;
type Answers = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// One run of entries over a connection, which is given back if it ends with nothing on its way.
struct Session<'s> {
    place: &'s mut Option<Wire>,
    answers: SplitStream<Wire>,
    /// One for each request on its way.
    sent: mpsc::UnboundedReceiver<Sent>,
    writer: AbortOnDropHandle<io::Result<Sink>>,
    stall: Duration,
}

/// A request on its way.
struct Sent {
    previous: Option<LogId>,
    last: Option<LogId>,
    /// Its share of the window.
    _share: OwnedSemaphorePermit,
}

/// Sends all of `input` over `wire`, at most `window` bytes on their way, and streams the answers.
/// An answer that does not come within `stall` is an error: the peer is gone, or its disk is.
pub(crate) fn run<S>(
    place: &mut Option<Wire>,
    wire: Wire,
    input: S,
    window: usize,
    stall: Duration,
) -> impl Stream<Item = Answers> + Send + '_
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    let (sink, answers) = wire.split();
    let (sending, sent) = mpsc::unbounded_channel();
    let writer = AbortOnDropHandle::new(tokio::spawn(write(sink, input, window, sending)));
    let session = Session { place, answers, sent, writer, stall };
    stream::unfold(Some(session), |session| async move {
        let mut session = session?;
        match session.next().await {
            Ok(Some(result)) => {
                let on = result.is_ok().then_some(session);
                Some((Ok(result), on))
            }
            Ok(None) => {
                session.finish().await;
                None
            }
            Err(error) => Some((Err(RPCError::Network(NetworkError::new(&error))), None)),
        }
    })
}

async fn write<S>(
    mut sink: Sink,
    mut input: S,
    window: usize,
    sending: mpsc::UnboundedSender<Sent>,
) -> io::Result<Sink>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin,
{
    let window = u32::try_from(window).unwrap_or(u32::MAX);
    let room = Arc::new(Semaphore::new(usize::try_from(window).map_err(io::Error::other)?));
    while let Some(request) = input.next().await {
        let append = Append::from(request);
        let (previous, last) = (append.previous, append.last());
        let frame = wire::frame(&append);
        let share = u32::try_from(frame.len()).unwrap_or(u32::MAX).min(window);
        let share = Arc::clone(&room).acquire_many_owned(share).await.map_err(io::Error::other)?;
        if sending.send(Sent { previous, last, _share: share }).is_err() {
            break;
        }
        sink.send(frame).await?;
    }
    Ok(sink)
}

impl Session<'_> {
    /// The next answer; `None` when all requests are answered and no more will come.
    async fn next(&mut self) -> io::Result<Option<StreamAppendResult<TypeConfig>>> {
        let Some(sent) = self.sent.recv().await else { return Ok(None) };
        let frame = tokio::time::timeout(self.stall, self.answers.next()).await;
        let frame = frame.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer"))?;
        let frame = frame.ok_or(io::ErrorKind::UnexpectedEof)??;
        let appended: Appended = wire::read(&frame)?;
        if !appended.answers(sent.previous, sent.last) {
            let why = "an answer to what was not sent";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(Some(appended.into()))
    }

    async fn finish(self) {
        if let Ok(Ok(sink)) = self.writer.await {
            *self.place = sink.reunite(self.answers).ok();
        }
    }
}
