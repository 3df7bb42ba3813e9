/* Plain text on its way into the ring: which protocol it begins with, and the record with its first bytes. */
#ifndef WEIR_DATA_H
#define WEIR_DATA_H

#include "calls.h"
#include "conn.h"

/* After how many calls that begin like nothing known a connection is left alone; one that was open before may be in
 * the middle of a body. */
enum { MISSES_MAX = 8, MISSES_MAX_BEFORE = 64 };
enum { SLOTS = 4 };

/* A record in the making. A program may be interrupted by another on the same CPU, so there are several, each
 * taken by who uses it. */
struct data_slot {
	__u64 taken;
	struct data_record record;
	__u8 bytes[2 * CAPTURE_MAX];
};

struct {
	UINT(type, MAP_PERCPU_ARRAY);
	UINT(max_entries, SLOTS);
	TYPE(key, __u32);
	TYPE(value, struct data_slot);
} data_slots SEC(".maps");

INLINE struct data_slot *take_slot(void)
{
#pragma unroll
	for (__u32 i = 0; i < SLOTS; i++) {
		__u32 key = i;
		struct data_slot *slot = bpf_map_lookup_elem(&data_slots, &key);
		if (slot && !__sync_lock_test_and_set(&slot->taken, 1))
			return slot;
	}
	count(COUNT_TRIED);
	count(COUNT_DROPPED);
	return 0;
}

#define FOUR(a, b, c, d) ((__u32)(a) | (__u32)(b) << 8 | (__u32)(c) << 16 | (__u32)(d) << 24)

INLINE int is_request(__u32 four)
{
	return four == FOUR('G', 'E', 'T', ' ') || four == FOUR('P', 'O', 'S', 'T') ||
	       four == FOUR('P', 'U', 'T', ' ') || four == FOUR('H', 'E', 'A', 'D') ||
	       four == FOUR('D', 'E', 'L', 'E') || four == FOUR('O', 'P', 'T', 'I') ||
	       four == FOUR('P', 'A', 'T', 'C') || four == FOUR('C', 'O', 'N', 'N') ||
	       four == FOUR('T', 'R', 'A', 'C');
}

/* A server that reads byte by byte shows less than a word. */
INLINE int may_begin_request(__u8 first)
{
	return first == 'G' || first == 'P' || first == 'H' || first == 'D' || first == 'O' || first == 'C' ||
	       first == 'T';
}

INLINE __u8 classify(const __u8 *bytes, __u32 n)
{
	__u32 four = FOUR(bytes[0], bytes[1], bytes[2], bytes[3]);
	if (n >= 4 && (is_request(four) || four == FOUR('H', 'T', 'T', 'P')))
		return PROTOCOL_HTTP1;
	if (n >= 4 && four == FOUR('P', 'R', 'I', ' ') && bytes[4] == '*')
		return PROTOCOL_HTTP2;
	/* A handshake, or the data of a session that began earlier. */
	if (n >= 3 && (bytes[0] == 0x16 || bytes[0] == 0x17) && bytes[1] == 3)
		return PROTOCOL_TLS;
	if (n > 0 && n < 4 && may_begin_request(bytes[0]))
		return PROTOCOL_HTTP1;
	return PROTOCOL_UNKNOWN;
}

/* What the connection speaks, now that it began with, or went on with, these bytes. */
INLINE __u8 protocol_after(struct connection *connection, __u8 known, const __u8 *bytes, __u32 n)
{
	if (known != PROTOCOL_UNKNOWN)
		return known;
	__u8 found = classify(bytes, n);
	if (found != PROTOCOL_UNKNOWN)
		return found;
	__u8 allowed = (connection->flags & CONNECTION_BEFORE) ? MISSES_MAX_BEFORE : MISSES_MAX;
	return ++connection->misses >= allowed ? PROTOCOL_OTHER : PROTOCOL_UNKNOWN;
}

/* 101, and what follows a granted CONNECT, is the end of HTTP on a connection. */
INLINE __u8 protocol_next(struct connection *connection, const __u8 *bytes, __u32 n)
{
	if (n < 12)
		return PROTOCOL_HTTP1;
	__u32 four = FOUR(bytes[0], bytes[1], bytes[2], bytes[3]);
	if (is_request(four))
		connection->connect = four == FOUR('C', 'O', 'N', 'N');
	if (four != FOUR('H', 'T', 'T', 'P'))
		return PROTOCOL_HTTP1;
	if (bytes[9] == '1' && bytes[10] == '0' && bytes[11] == '1')
		return PROTOCOL_OTHER;
	if (bytes[9] == '2' && connection->connect) {
		connection->connect = 0;
		connection->misses = 0;
		return PROTOCOL_UNKNOWN;
	}
	return PROTOCOL_HTTP1;
}

/* The role of a connection that was open before follows from who sends requests. */
INLINE void infer_role(struct connection *connection, const __u8 *bytes, __u32 n, int direction)
{
	if (n < 4 || connection->tuple.role != ROLE_UNKNOWN)
		return;
	int request = is_request(FOUR(bytes[0], bytes[1], bytes[2], bytes[3]));
	connection->tuple.role = (direction == DIRECTION_SENT) == request ? ROLE_CLIENT : ROLE_SERVER;
}

INLINE void announce(struct connection *connection, struct sock *sk, __u64 now)
{
	if (!connection->announced)
		tell(connection, sk, CONNECTION_SEEN, 0, now);
}

/* What a call moved, with its first bytes in the slot already. */
struct moved {
	__u64 now;
	__u64 began_ns;
	__u32 total;
	__u32 captured;
	__u8 direction;
	__u8 flags;
};

INLINE void emit_data(struct connection *connection, struct sock *sk, struct data_slot *slot, struct moved *moved)
{
	__u64 both = bpf_get_current_pid_tgid();
	announce(connection, sk, moved->now);
	begin_record(&slot->record.head, RECORD_DATA, moved->now);
	slot->record.connection = connection->id;
	slot->record.began_ns = moved->began_ns;
	slot->record.pid = both >> 32;
	slot->record.tid = both;
	slot->record.total = moved->total;
	slot->record.captured = moved->captured;
	slot->record.direction = moved->direction;
	slot->record.flags = moved->flags;
	slot->record.pad = 0;
	slot->record.pad2 = 0;
	__u64 n = moved->captured;
	BARRIER(n);
	if (n > CAPTURE_MAX)
		n = CAPTURE_MAX;
	emit(&slot->record.head, sizeof(slot->record) + n);
}

/* Follows the protocol and hands over what belongs to HTTP/1. */
INLINE void plain_text(struct connection *connection, struct sock *sk, struct data_slot *slot, struct moved *moved)
{
	int tls = moved->flags & DATA_TLS;
	__u8 known = tls ? connection->protocol_tls : connection->protocol;
	__u8 now = protocol_after(connection, known, slot->bytes, moved->captured);
	if (now == PROTOCOL_HTTP1) {
		infer_role(connection, slot->bytes, moved->captured, moved->direction);
		/* Plain requests are read in any case: TLS may follow a CONNECT. */
		if (tls || (want & WANT_HTTP))
			emit_data(connection, sk, slot, moved);
		now = protocol_next(connection, slot->bytes, moved->captured);
	} else if (now == PROTOCOL_HTTP2 && known == PROTOCOL_UNKNOWN) {
		count(COUNT_HTTP2);
		tell(connection, sk, CONNECTION_HTTP2, 0, moved->now);
	}
	if (tls)
		connection->protocol_tls = now;
	else
		connection->protocol = now;
}

#endif
