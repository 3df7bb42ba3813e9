//! A network in memory: each receiver has a mood, each connection a send queue that the sender's system would keep,
//! bytes that arrived, and an acknowledgement that lags behind them.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::base::rng::Rng;
use crate::net::dial::{Connection, Dial, Endpoint, Wire};

/// How a receiver behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// Takes everything at once.
    Well,
    /// Takes this many bytes now and then.
    Slow(usize),
    /// Connections stay, and nothing moves.
    Hangs,
    /// Refuses connections.
    Down,
    /// Connections are never made.
    Silent,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// In order: the receiver has read all that arrived.
    Closed,
    /// With a reset: acknowledgements for what arrived may have been lost.
    Reset,
}

#[derive(Debug)]
struct Pipe {
    receiver: usize,
    /// What the sender's system still holds.
    unsent: VecDeque<u8>,
    /// Bytes that the sender's system has taken.
    accepted: usize,
    /// Whether the sender ended the connection in order.
    said_goodbye: bool,
    /// What the receiver has.
    arrived: Vec<u8>,
    /// How much of that the sender's system knows of.
    acknowledged: usize,
    /// What the sender was told when it last asked.
    told: usize,
    ended: Option<End>,
    wakers: Vec<Waker>,
}

#[derive(Debug)]
pub(super) struct Network {
    state: Mutex<State>,
    /// Size of a send queue in bytes.
    queue_bytes: usize,
    /// Whether connections claim to be encrypted, so that bytes cannot be told from bytes on the wire.
    opaque: bool,
}

#[derive(Debug)]
struct State {
    moods: Vec<Mood>,
    pipes: Vec<Arc<Mutex<Pipe>>>,
    dials: usize,
}

impl Network {
    pub(super) fn new(receivers: usize, opaque: bool) -> Arc<Network> {
        let state = State { moods: vec![Mood::Well; receivers], pipes: Vec::new(), dials: 0 };
        Arc::new(Network { state: Mutex::new(state), queue_bytes: 4096, opaque })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn receivers(&self) -> usize {
        self.lock().moods.len()
    }

    pub(super) fn dials(&self) -> usize {
        self.lock().dials
    }

    pub(super) fn set(&self, receiver: usize, mood: Mood) {
        self.lock().moods[receiver] = mood;
        self.step(&mut Rng::seeded(1));
    }

    /// Ends all connections of a receiver.
    pub(super) fn end(&self, receiver: usize, end: End) {
        for pipe in &self.lock().pipes {
            let mut pipe = pipe.lock().unwrap();
            if pipe.receiver != receiver || pipe.ended.is_some() {
                continue;
            }
            if end == End::Closed {
                pipe.acknowledged = pipe.arrived.len();
            }
            pipe.ended = Some(end);
            pipe.unsent.clear();
            pipe.wakers.drain(..).for_each(Waker::wake);
        }
    }

    /// Lets time pass on the wire: bytes arrive as moods allow, acknowledgements follow.
    pub(super) fn step(&self, rng: &mut Rng) {
        let state = &mut *self.lock();
        for pipe in &state.pipes {
            let pipe = &mut *pipe.lock().unwrap();
            if pipe.ended.is_some() {
                continue;
            }
            let most = match state.moods[pipe.receiver] {
                Mood::Well => usize::MAX,
                Mood::Slow(bytes) => bytes,
                Mood::Hangs | Mood::Down | Mood::Silent => 0,
            };
            let many = most.min(pipe.unsent.len());
            pipe.arrived.extend(pipe.unsent.drain(..many));
            let lag = pipe.arrived.len() - pipe.acknowledged;
            pipe.acknowledged += match state.moods[pipe.receiver] {
                Mood::Well => lag,
                Mood::Slow(_) => rng.below(lag as u64 + 1) as usize,
                _ => 0,
            };
            pipe.wakers.drain(..).for_each(Waker::wake);
        }
    }

    /// Steps, for ever.
    pub(super) async fn run(self: Arc<Self>, every: Duration, seed: u64) {
        let mut rng = Rng::seeded(seed);
        loop {
            tokio::time::sleep(every).await;
            self.step(&mut rng);
        }
    }

    /// What each connection brought: its receiver, its complete rows, and how many of them the sender knew to have
    /// arrived when it last asked. A connection that was given up may still bring something.
    pub(super) fn deliveries(&self) -> Vec<(usize, Vec<String>, usize)> {
        let rows = |bytes: &[u8]| {
            let end = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            String::from_utf8_lossy(&bytes[..end]).lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let of = |pipe: &Arc<Mutex<Pipe>>| {
            let p = pipe.lock().unwrap();
            (p.receiver, rows(&p.arrived), rows(&p.arrived[..p.told]).len())
        };
        self.lock().pipes.iter().map(of).collect()
    }

    /// Connections that the sender ended in order.
    pub(super) fn goodbyes(&self) -> usize {
        self.lock().pipes.iter().filter(|pipe| pipe.lock().unwrap().said_goodbye).count()
    }

    /// All rows of all connections, in the order of the connections.
    pub(super) fn rows(&self) -> Vec<String> {
        self.deliveries().into_iter().flat_map(|(_, rows, _)| rows).collect()
    }
}

#[async_trait]
impl Dial for Network {
    async fn dial(&self, endpoint: &Endpoint) -> io::Result<Connection> {
        let receiver = usize::from(endpoint.port) - 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mood = {
            let mut state = self.lock();
            state.dials += 1;
            state.moods[receiver]
        };
        match mood {
            Mood::Down => Err(io::ErrorKind::ConnectionRefused.into()),
            Mood::Silent => {
                tokio::time::sleep(Duration::from_secs(10)).await;
                Err(io::ErrorKind::TimedOut.into())
            }
            _ => Ok(self.connect(receiver)),
        }
    }
}

impl Network {
    fn connect(&self, receiver: usize) -> Connection {
        let pipe = Arc::new(Mutex::new(Pipe {
            receiver,
            unsent: VecDeque::new(),
            accepted: 0,
            said_goodbye: false,
            arrived: Vec::new(),
            acknowledged: 0,
            told: 0,
            ended: None,
            wakers: Vec::new(),
        }));
        self.lock().pipes.push(pipe.clone());
        let end = SendingEnd { pipe, queue_bytes: self.queue_bytes };
        let (io, wire, is_plain) =
            (Box::new(end.clone()), Some(Arc::new(end) as Arc<dyn Wire>), !self.opaque);
        Connection { io, wire, is_plain, alpn_h2: false, peer: None }
    }
}

/// The sender's side of a connection.
#[derive(Debug, Clone)]
struct SendingEnd {
    pipe: Arc<Mutex<Pipe>>,
    queue_bytes: usize,
}

impl Wire for SendingEnd {
    fn sent(&self) -> u64 {
        let pipe = self.pipe.lock().unwrap();
        pipe.accepted as u64
    }

    fn acknowledged(&self) -> io::Result<u64> {
        let mut pipe = self.pipe.lock().unwrap();
        pipe.told = pipe.acknowledged;
        Ok(pipe.told as u64)
    }
}

impl AsyncRead for SendingEnd {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.pipe.lock().unwrap();
        match pipe.ended {
            Some(End::Closed) => Poll::Ready(Ok(())),
            Some(End::Reset) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            None => {
                pipe.wakers.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for SendingEnd {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.pipe.lock().unwrap();
        if pipe.ended.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let many = (self.queue_bytes - pipe.unsent.len()).min(buf.len());
        if many == 0 {
            pipe.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        pipe.unsent.extend(&buf[..many]);
        pipe.accepted += many;
        Poll::Ready(Ok(many))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.pipe.lock().unwrap();
        pipe.said_goodbye = true;
        Poll::Ready(Ok(()))
    }
}
