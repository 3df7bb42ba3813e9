//! The records that the kernel's programs put into the ring, read from bytes by their offsets. `ebpf/events.h` is
//! the other half of this file. Whatever the bytes are, reading them neither panics nor allocates.

/// The version of the layout, see `WEIR_LAYOUT`.
const LAYOUT: u16 = 1;

/// What every record begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The CPU that wrote it.
    pub cpu: u32,
    /// Counted per CPU for every record that was tried: what is missing was dropped.
    pub sequence: u64,
    /// When, in nanoseconds on the monotonic clock.
    pub time_ns: u64,
}

/// Whose call it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Process, in the initial pid namespace.
    pub pid: u32,
    /// Thread, in the initial pid namespace.
    pub tid: u32,
    /// Real user.
    pub uid: u32,
    /// Process, in its own pid namespace.
    pub pid_inner: u32,
    /// Cgroup in the unified hierarchy.
    pub cgroup: u64,
    /// Start of the process on the monotonic clock.
    pub started_ns: u64,
    /// Inode number of the process's pid namespace.
    pub pid_namespace: u32,
    /// Name of the main thread, padded with zeros.
    pub comm: [u8; 16],
    /// Its cgroups in all hierarchies as one number; 0 if it is not known.
    pub group: u64,
}

/// The ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// The process's address; IPv4 in the first four bytes.
    pub local: [u8; 16],
    /// The other end's.
    pub remote: [u8; 16],
    /// The process's port.
    pub local_port: u16,
    /// The other end's.
    pub remote_port: u16,
    /// `AF_INET` (2) or `AF_INET6` (10).
    pub family: u16,
    /// 0 unknown, 1 client, 2 server.
    pub role: u8,
}

/// `struct connection_record`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionRecord {
    /// Common part.
    pub head: Head,
    /// Unique while the programs are loaded.
    pub id: u64,
    /// Who connected or accepted.
    pub owner: Owner,
    /// Between whom.
    pub tuple: Tuple,
    /// When it opened, monotonic.
    pub opened_ns: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Smoothed round-trip time in microseconds.
    pub rtt_us: u32,
    /// Segments sent again.
    pub retransmits: u32,
    /// Error number, 0 for none.
    pub error: u32,
    /// What happened.
    pub event: ConnectionKind,
    /// Whether the connection is older than the programs.
    pub before: bool,
    /// Whether the owner is the listener's.
    pub owner_guessed: bool,
}

/// `enum connection_event`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionKind {
    /// `connect` was answered.
    Opened,
    /// `accept` returned it.
    Accepted,
    /// It ended.
    Closed,
    /// `connect` failed.
    Failed,
    /// It is told of before its first data, for its tuple and owner.
    Seen,
    /// It began with the preface of HTTP/2.
    Http2,
}

/// `struct data_record` and the captured bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataRecord<'a> {
    /// Common part; its time is when the call ended.
    pub head: Head,
    /// The connection's id.
    pub connection: u64,
    /// When the call began, if known; else 0.
    pub began_ns: u64,
    /// Calling process.
    pub pid: u32,
    /// Calling thread.
    pub tid: u32,
    /// Bytes the call moved.
    pub total: u32,
    /// Whether they were sent; else received.
    pub sent: bool,
    /// Whether they are plain text of a TLS connection.
    pub tls: bool,
    /// Whether the connection was inferred from the thread's last call.
    pub inferred: bool,
    /// The first of the bytes; never more than `total`.
    pub bytes: &'a [u8],
}

/// `struct output_record` and the captured bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputRecord<'a> {
    /// Common part.
    pub head: Head,
    /// Who wrote.
    pub owner: Owner,
    /// 1 or 2.
    pub fd: u32,
    /// Bytes the call wrote, over all of its records.
    pub total: u32,
    /// Whether the next record of the thread goes on with the same call.
    pub continues: bool,
    /// Whether the call wrote more than its records hold.
    pub cut: bool,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// Any record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// Something happened to a connection.
    Connection(ConnectionRecord),
    /// A connection moved data.
    Data(DataRecord<'a>),
    /// A process wrote to its output.
    Output(OutputRecord<'a>),
}

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than its kind is.
    Short,
    /// Written by programs of another version.
    Layout,
    /// Of no known kind.
    Kind,
}

impl<'a> Record<'a> {
    /// Reads one record as it lay in the ring.
    ///
    /// # Errors
    /// When the bytes are no record of this layout.
    pub fn parse(bytes: &'a [u8]) -> Result<Record<'a>, Malformed> {
        let at = Fields(bytes);
        if at.u16(2)? != LAYOUT {
            return Err(Malformed::Layout);
        }
        let head = Head { cpu: at.u32(4)?, sequence: at.u64(8)?, time_ns: at.u64(16)? };
        match at.u16(0)? {
            1 => connection(&at, head).map(Record::Connection),
            2 => data(&at, head).map(Record::Data),
            3 => output(&at, head).map(Record::Output),
            _ => Err(Malformed::Kind),
        }
    }

    /// The common part.
    pub fn head(&self) -> Head {
        match self {
            Record::Connection(record) => record.head,
            Record::Data(record) => record.head,
            Record::Output(record) => record.head,
        }
    }
}

impl Record<'_> {
    /// Whose it is, if it says so itself.
    pub fn owner(&self) -> Option<&Owner> {
        match self {
            Record::Connection(record) => Some(&record.owner),
            Record::Output(record) => Some(&record.owner),
            Record::Data(_) => None,
        }
    }
}

fn connection(at: &Fields<'_>, head: Head) -> Result<ConnectionRecord, Malformed> {
    if at.0.len() < 184 {
        return Err(Malformed::Short);
    }
    let flags = at.u8(173)?;
    Ok(ConnectionRecord {
        head,
        id: at.u64(24)?,
        owner: owner(at, 32)?,
        tuple: tuple(at, 96)?,
        opened_ns: at.u64(136)?,
        bytes_sent: at.u64(144)?,
        bytes_received: at.u64(152)?,
        rtt_us: at.u32(160)?,
        retransmits: at.u32(164)?,
        error: at.u32(168)?,
        event: match at.u8(172)? {
            1 => ConnectionKind::Opened,
            2 => ConnectionKind::Accepted,
            3 => ConnectionKind::Closed,
            4 => ConnectionKind::Failed,
            5 => ConnectionKind::Seen,
            6 => ConnectionKind::Http2,
            _ => return Err(Malformed::Kind),
        },
        before: flags & 1 != 0,
        owner_guessed: flags & 2 != 0,
    })
}

fn data<'a>(at: &Fields<'a>, head: Head) -> Result<DataRecord<'a>, Malformed> {
    let (total, captured) = (at.u32(48)?, at.u32(52)?);
    let flags = at.u8(57)?;
    Ok(DataRecord {
        head,
        connection: at.u64(24)?,
        began_ns: at.u64(32)?,
        pid: at.u32(40)?,
        tid: at.u32(44)?,
        total,
        sent: at.u8(56)? == 0,
        tls: flags & 1 != 0,
        inferred: flags & 2 != 0,
        bytes: at.bytes(64, captured.min(total))?,
    })
}

fn output<'a>(at: &Fields<'a>, head: Head) -> Result<OutputRecord<'a>, Malformed> {
    let flags = at.u32(100)?;
    Ok(OutputRecord {
        head,
        owner: owner(at, 24)?,
        fd: at.u32(88)?,
        total: at.u32(92)?,
        continues: flags & 1 != 0,
        cut: flags & 2 != 0,
        bytes: at.bytes(104, at.u32(96)?)?,
    })
}

fn owner(at: &Fields<'_>, start: usize) -> Result<Owner, Malformed> {
    Ok(Owner {
        pid: at.u32(start)?,
        tid: at.u32(start + 4)?,
        uid: at.u32(start + 8)?,
        pid_inner: at.u32(start + 12)?,
        cgroup: at.u64(start + 16)?,
        started_ns: at.u64(start + 24)?,
        pid_namespace: at.u32(start + 32)?,
        comm: at.array(start + 40)?,
        group: at.u64(start + 56)?,
    })
}

fn tuple(at: &Fields<'_>, start: usize) -> Result<Tuple, Malformed> {
    Ok(Tuple {
        local: at.array(start)?,
        remote: at.array(start + 16)?,
        local_port: at.u16(start + 32)?,
        remote_port: at.u16(start + 34)?,
        family: at.u16(start + 36)?,
        role: at.u8(start + 38)?,
    })
}

/// Fixed-size fields of the machine's byte order, by their offsets.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], Malformed> {
        let field = self.0.get(at..at + N).and_then(|bytes| bytes.try_into().ok());
        field.ok_or(Malformed::Short)
    }

    fn u8(&self, at: usize) -> Result<u8, Malformed> {
        self.0.get(at).copied().ok_or(Malformed::Short)
    }

    fn u16(&self, at: usize) -> Result<u16, Malformed> {
        self.array(at).map(u16::from_ne_bytes)
    }

    fn u32(&self, at: usize) -> Result<u32, Malformed> {
        self.array(at).map(u32::from_ne_bytes)
    }

    fn u64(&self, at: usize) -> Result<u64, Malformed> {
        self.array(at).map(u64::from_ne_bytes)
    }

    /// `len` bytes from `at` on; the ring may have padded the record behind them.
    fn bytes(&self, at: usize, len: u32) -> Result<&'a [u8], Malformed> {
        let rest = self.0.get(at..).ok_or(Malformed::Short)?;
        rest.get(..len as usize).ok_or(Malformed::Short)
    }
}
