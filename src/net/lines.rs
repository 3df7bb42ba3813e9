//! A stream over plain TCP: every client that connects is sent lines, from the same kind of ring as over HTTP.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::entrance::{Arrival, Entrance, Visitor};
use super::listener::arrive;
use super::notes::NoteStyle;
use super::pump::{PumpOptions, pump_socket};
use super::ring::Start;
use super::router::StreamRoute;
use super::segment::{Content, Form, Framing};
use super::select::Select;
use super::subscriber::{Seat, Subscriber, Wish};
use crate::base::shutdown::Shutdown;
use crate::base::task;

/// Serves every client of `entrance` with the history and what follows, in the sink's own format, until `shutdown`
/// drains and the stream has no sink any more, or it aborts. Where rows are JSON objects, a client that missed
/// some is told by an object with a `weir` key.
///
/// Dropped, it accepts nobody any more; those who are connected are served on.
///
/// # Errors
/// When the listener itself fails.
pub async fn serve_lines(entrance: Entrance, stream: StreamRoute, shutdown: Shutdown) -> io::Result<()> {
    let stream = Arc::new(stream);
    let slots = Arc::new(Semaphore::new(stream.options.connections_max));
    let clients = TaskTracker::new();
    while let Some((arrival, slot)) = arrive(&entrance, &slots, &shutdown).await {
        let (stream, shutdown, peer) = (stream.clone(), shutdown.clone(), arrival.peer);
        let served = clients.track_future(async move {
            match AssertUnwindSafe(client(&stream, arrival, &shutdown)).catch_unwind().await {
                Ok(Ok(())) => {}
                Ok(Err(e)) => tracing::debug!(%peer, "client of {} ended: {e}", stream.site.id()),
                Err(payload) => {
                    tracing::error!(%peer, "a connection failed: {}", task::panic_text(payload.as_ref()));
                }
            }
            drop(slot);
        });
        drop(task::spawn(served));
    }
    drop(entrance);
    clients.close();
    tokio::select! {
        () = clients.wait() => {}
        () = shutdown.aborted() => {}
    }
    Ok(())
}

async fn client(stream: &StreamRoute, arrival: Arrival, shutdown: &Shutdown) -> io::Result<()> {
    let Visitor { mut socket, admission, .. } = arrival.open(shutdown).await?;
    let options = &stream.options;
    let notes = if options.own_is_json { NoteStyle::JsonLines } else { NoteStyle::Silent };
    let mut subscriber = Subscriber::new(Wish { notes, select: Select::default(), limit: None, many: false });
    let form = Form::new(Framing::Lines, Content::Own);
    subscriber.join(&stream.ring, Start::Oldest, form, Seat::take(stream.meter.clone()));
    let pumping = PumpOptions {
        chunked: false,
        write_timeout: options.write_timeout,
        heartbeat: options.heartbeat,
        heartbeat_style: options.heartbeat_style,
        heartbeat_stats: options.heartbeat_stats,
    };
    let pumped = pump_socket(&mut socket, Bytes::new(), &mut subscriber, &pumping, shutdown).await;
    drop(admission);
    pumped
}
