/* The records that programs put into the ring: one header, then what the kind says. Little or big endian as the
 * machine is; every member is aligned to its size, and padding is spelled out. src/trace/records.rs reads them and
 * has the same offsets; change both, and raise WEIR_LAYOUT. */
#ifndef WEIR_EVENTS_H
#define WEIR_EVENTS_H

#include "vmlinux.h"

#define WEIR_LAYOUT 1
/* Most bytes of one call that a record holds. */
#define CAPTURE_MAX 4096

enum record_kind {
	RECORD_CONNECTION = 1, /* struct connection_record */
	RECORD_DATA = 2,       /* struct data_record, then the captured bytes */
	RECORD_OUTPUT = 3,     /* struct output_record, then the captured bytes */
};

/* 24 bytes. */
struct record_head {
	__u16 kind;
	__u16 layout;
	__u32 cpu;
	__u64 sequence; /* per CPU, counted up for every record that was tried */
	__u64 time_ns;	/* monotonic clock */
};

/* 64 bytes. Pids are those of the initial namespace, except pid_inner. */
struct owner {
	__u32 pid;
	__u32 tid;
	__u32 uid;
	__u32 pid_inner; /* in the process's own pid namespace */
	__u64 cgroup;	 /* id in the unified hierarchy */
	__u64 started_ns; /* monotonic start of the process: with pid, it names a process for good */
	__u32 pid_namespace;
	__u32 out_of_scope; /* decided while the process itself is at work: its cgroups are not known later */
	char comm[16];
	__u64 group; /* its cgroups in all hierarchies as one number; 0 if containers are not looked at */
};

/* 40 bytes. IPv4 addresses are in the first four bytes. Ports in host order. */
struct tuple {
	__u8 local[16];
	__u8 remote[16];
	__u16 local_port;
	__u16 remote_port;
	__u16 family;
	__u8 role;
	__u8 flags;
};

enum role {
	ROLE_UNKNOWN = 0, /* the connection is older than the programs */
	ROLE_CLIENT = 1,
	ROLE_SERVER = 2,
};

enum connection_event {
	CONNECTION_OPENED = 1,	 /* connect() was answered */
	CONNECTION_ACCEPTED = 2, /* accept() handed it out */
	CONNECTION_CLOSED = 3,
	CONNECTION_FAILED = 4,	 /* connect() was not answered, or refused */
	CONNECTION_SEEN = 5,	 /* the first record of a connection that was open already, or of which only HTTP is wanted */
	CONNECTION_HTTP2 = 6,	 /* it began with the preface of HTTP/2: counted, not read */
};

enum connection_flags {
	CONNECTION_BEFORE = 1,	     /* it was open before the programs were: bytes and duration are those since */
	CONNECTION_OWNER_GUESSED = 2, /* closed before a process took it: the owner is the listener's */
};

/* 24 + 8 + 64 + 40 + 48 = 184 bytes. */
struct connection_record {
	struct record_head head;
	__u64 id;
	struct owner owner;
	struct tuple tuple;
	__u64 opened_ns;
	__u64 bytes_sent;
	__u64 bytes_received;
	__u32 rtt_us;
	__u32 retransmits;
	__u32 error; /* errno of CONNECTION_FAILED, or of a reset */
	__u8 event;
	__u8 flags;
	__u16 pad;
	__u64 reserved;
};

enum direction {
	DIRECTION_SENT = 0,
	DIRECTION_RECEIVED = 1,
};

enum data_flags {
	DATA_TLS = 1,	  /* plain text of a TLS connection, from its library */
	DATA_TLS_BY_THREAD = 2, /* which connection it belongs to was inferred from the thread's last call */
};

/* 24 + 40 = 64 bytes, then `captured` bytes. */
struct data_record {
	struct record_head head;
	__u64 connection;
	__u64 began_ns; /* when the call began, where that is known; else 0 */
	__u32 pid;
	__u32 tid;
	__u32 total; /* bytes the call moved */
	__u32 captured;
	__u8 direction;
	__u8 flags;
	__u16 pad;
	__u32 pad2;
};

enum output_flags {
	OUTPUT_CONTINUES = 1, /* more of the same call follows in the next record of this thread */
	OUTPUT_CUT = 2,	      /* the call wrote more than is captured */
};

/* 24 + 64 + 16 = 104 bytes, then `captured` bytes. */
struct output_record {
	struct record_head head;
	struct owner owner;
	__u32 fd;
	__u32 total;
	__u32 captured;
	__u32 flags;
};

#endif
