/* What all programs share: settings, maps, who the current process is, which connections are looked at, and the
 * one way a record goes into the ring. Nothing here changes what a traced program sees. */
#ifndef WEIR_STATE_H
#define WEIR_STATE_H

#include "bpf.h"
#include "events.h"

/* Settings, filled in before the programs are loaded. */
const volatile __u32 want = 0;
const volatile __u32 scope = 0;
const volatile __u32 cgroups_v1 = 0; /* there are hierarchies beside the unified one */
const volatile __u32 self_pid_namespace = 0;
const volatile __u32 self_pid_inner = 0;

enum want_bits { WANT_TCP = 1, WANT_HTTP = 2, WANT_TLS = 4, WANT_STDIO = 8 };
enum scope_bits { SCOPE_PID = 1, SCOPE_COMM = 2, SCOPE_PORT = 4, SCOPE_CGROUP = 8, SCOPE_PEERS = 16,
		  SCOPE_CONTAINER = 32 };

enum { AF_INET = 2, AF_INET6 = 10, IPPROTO_TCP = 6 };
enum { S_IFMT = 0170000, S_IFSOCK = 0140000 };
enum { PF_IO_WORKER = 0x10, PF_KTHREAD = 0x200000 };
enum { CGROUP_LEVELS_MAX = 8, SUBSYSTEMS_MAX = 16 };

enum protocol { PROTOCOL_UNKNOWN = 0, PROTOCOL_HTTP1, PROTOCOL_HTTP2, PROTOCOL_TLS, PROTOCOL_OTHER };

/* What is known of an open connection, under the address of its socket. */
struct connection {
	__u64 id;
	struct owner owner;
	struct tuple tuple;
	__u64 opened_ns;
	__u8 connecting; /* connect() has not been answered */
	__u8 ignored;	 /* weir's own, an excluded peer, or out of scope */
	__u8 announced;	 /* user space was told of it */
	__u8 owned;	 /* the owner is a process that used it, not a guess */
	__u8 flags;	 /* enum connection_flags */
	__u8 protocol;
	__u8 protocol_tls; /* of the plain text inside TLS */
	__u8 misses;	   /* calls that began like no known protocol */
	__u8 connect;	   /* the last request was CONNECT: what follows its answer is another protocol */
	__u8 left_out;	   /* its container turned out to be out of scope */
	__u8 pad[6];
};

struct {
	UINT(type, MAP_HASH);
	UINT(max_entries, 32768);
	TYPE(key, __u64);
	TYPE(value, struct connection);
} connections SEC(".maps");

struct listener_key {
	__u32 network;
	__u16 port;
	__u16 pad;
};

struct {
	UINT(type, MAP_LRU_HASH);
	UINT(max_entries, 4096);
	TYPE(key, struct listener_key);
	TYPE(value, struct owner);
} listeners SEC(".maps");

struct ends {
	__u8 local[16];
	__u8 remote[16];
	__u16 local_port;
	__u16 remote_port;
};

/* Connections whose other end is weir itself, as that other end's process sees them. */
struct {
	UINT(type, MAP_LRU_HASH);
	UINT(max_entries, 16384);
	TYPE(key, struct ends);
	TYPE(value, __u8);
} own_peers SEC(".maps");

struct peer_key {
	__u8 address[16];
	__u16 port;
	__u16 pad;
};

struct {
	UINT(type, MAP_HASH);
	UINT(max_entries, 1024);
	TYPE(key, struct peer_key);
	TYPE(value, __u8);
} excluded_peers SEC(".maps");

struct {
	UINT(type, MAP_HASH);
	UINT(max_entries, 1024);
	TYPE(key, __u32);
	TYPE(value, __u8);
} scope_pids SEC(".maps");

struct comm_key {
	char comm[16];
};

struct {
	UINT(type, MAP_HASH);
	UINT(max_entries, 256);
	TYPE(key, struct comm_key);
	TYPE(value, __u8);
} scope_comms SEC(".maps");

struct {
	UINT(type, MAP_HASH);
	UINT(max_entries, 256);
	TYPE(key, __u16);
	TYPE(value, __u8);
} scope_ports SEC(".maps");

struct {
	UINT(type, MAP_HASH);
	UINT(max_entries, 256);
	TYPE(key, __u64);
	TYPE(value, __u8);
} scope_cgroups SEC(".maps");

/* Groups, as in struct owner, whose container is known to be out of scope. User space decides when the first event of
 * a group comes; what is not in here passes. Groups are not used again, so what is old does no harm. */
struct {
	UINT(type, MAP_LRU_HASH);
	UINT(max_entries, 16384);
	TYPE(key, __u64);
	TYPE(value, __u8);
} foreign_groups SEC(".maps");

struct {
	UINT(type, MAP_RINGBUF);
	UINT(max_entries, 8388608);
} ring SEC(".maps");

enum counter {
	COUNT_TRIED = 0,      /* records that programs wanted to hand over; the sequence */
	COUNT_DROPPED = 1,    /* of them, those the ring had no room for */
	COUNT_HTTP2 = 2,      /* connections that began with the preface of HTTP/2 */
	COUNT_UNREADABLE = 3, /* calls whose data is not reachable (io_uring, sendfile, paged out) */
	COUNT_UNTRACKED = 4,  /* connections beyond the size of the map */
	COUNT_UNLINKED = 5,   /* plain text of TLS whose connection is not known */
	COUNT_IDS = 6,
	COUNT_LEFT_OUT = 7,   /* connections and captured calls of containers out of scope */
	COUNTERS = 8,
};

struct {
	UINT(type, MAP_PERCPU_ARRAY);
	UINT(max_entries, COUNTERS);
	TYPE(key, __u32);
	TYPE(value, __u64);
} counters SEC(".maps");

INLINE __u64 count(__u32 which)
{
	__u64 *counter = bpf_map_lookup_elem(&counters, &which);
	return counter ? __sync_fetch_and_add(counter, 1) : 0;
}

INLINE void begin_record(struct record_head *head, __u16 kind, __u64 now)
{
	head->kind = kind;
	head->layout = WEIR_LAYOUT;
	head->cpu = bpf_get_smp_processor_id();
	head->sequence = 0;
	head->time_ns = now;
}

/* Hands a record over, or counts it as dropped. The reader polls, so nobody is woken here. */
INLINE void emit(struct record_head *head, __u64 size)
{
	head->sequence = count(COUNT_TRIED);
	if (bpf_ringbuf_output(&ring, head, size, NO_WAKEUP))
		count(COUNT_DROPPED);
}

/* Unique among all connections while the programs are loaded: a count, and the CPU that counted. */
INLINE __u64 next_id(void)
{
	return ((count(COUNT_IDS) + 1) << 12) | (bpf_get_smp_processor_id() & 0xfff);
}

INLINE int cgroup_in_scope(__u64 cgroup)
{
	if (bpf_map_lookup_elem(&scope_cgroups, &cgroup))
		return 1;
	/* Only the current process's ancestors are known. */
#pragma unroll
	for (int level = 0; level < CGROUP_LEVELS_MAX; level++) {
		__u64 above = bpf_get_current_ancestor_cgroup_id(level);
		if (!above)
			return 0;
		if (bpf_map_lookup_elem(&scope_cgroups, &above))
			return 1;
	}
	return 0;
}

INLINE int owner_in_scope(struct owner *owner)
{
	if (scope & SCOPE_PID) {
		if (!bpf_map_lookup_elem(&scope_pids, &owner->pid))
			return 0;
	}
	if (scope & SCOPE_COMM) {
		struct comm_key key;
		__builtin_memcpy(key.comm, owner->comm, sizeof(key.comm));
		if (!bpf_map_lookup_elem(&scope_comms, &key))
			return 0;
	}
	if ((scope & SCOPE_CGROUP) && !cgroup_in_scope(owner->cgroup))
		return 0;
	return 1;
}

/* All cgroups of a process as one number. Where version 1 is in use, the unified group alone does not tell which
 * container it is: runtimes may leave all of them in one. */
INLINE __u64 group_of(struct task_struct *task, __u64 unified)
{
	__u64 group = unified;
	if (!(scope & SCOPE_CONTAINER))
		return 0;
	if (!cgroups_v1)
		return group;
	struct css_set *set = READ(task, cgroups);
	void *states = __builtin_preserve_access_index(&set->subsys);
	__u32 size = SIZE(set, subsys);
	for (__u32 i = 0; i < SUBSYSTEMS_MAX; i++) {
		struct cgroup_subsys_state *state = 0;
		if (i * sizeof(state) >= size)
			break;
		bpf_probe_read_kernel(&state, sizeof(state), states + i * sizeof(state));
		struct cgroup *cgroup = READ(state, cgroup);
		struct kernfs_node *node = READ(cgroup, kn);
		group = (group ^ READ(node, id)) * 0x9e3779b97f4a7c15;
		group ^= group >> 32;
	}
	return group;
}

INLINE int is_foreign(const struct owner *owner)
{
	__u64 group = owner->group;
	if (!(scope & SCOPE_CONTAINER) || !group)
		return 0;
	return !!bpf_map_lookup_elem(&foreign_groups, &group);
}

INLINE void current_owner(struct owner *owner)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 both = bpf_get_current_pid_tgid();
	struct task_struct *leader = READ(task, group_leader);
	struct pid *pid = READ(leader, thread_pid);
	struct upid inner = {};

	owner->pid = both >> 32;
	owner->tid = both;
	owner->uid = bpf_get_current_uid_gid();
	owner->cgroup = bpf_get_current_cgroup_id();
	owner->started_ns = READ(leader, start_time);
	owner->group = group_of(task, owner->cgroup);
	bpf_probe_read_kernel(owner->comm, sizeof(owner->comm), __builtin_preserve_access_index(&leader->comm));
	__u64 level = READ(pid, level) & 31;
	struct upid *numbers = __builtin_preserve_access_index(&pid->numbers[0]);
	bpf_probe_read_kernel(&inner, sizeof(inner), (void *)numbers + level * sizeof(struct upid));
	owner->pid_inner = inner.nr;
	owner->pid_namespace = READ(inner.ns, ns.inum);
	owner->out_of_scope = !owner_in_scope(owner);
}

INLINE int is_self(const struct owner *owner)
{
	return owner->pid_namespace == self_pid_namespace && owner->pid_inner == self_pid_inner;
}

INLINE int port_in_scope(struct tuple *tuple)
{
	__u16 local = tuple->local_port, remote = tuple->remote_port;
	if (!(scope & SCOPE_PORT))
		return 1;
	return bpf_map_lookup_elem(&scope_ports, &local) || bpf_map_lookup_elem(&scope_ports, &remote);
}

/* The key of a connection for both of its ends: mapped IPv4 (::ffff:a.b.c.d) is IPv4, so that the two ends of a
 * connection between an IPv6 socket and an IPv4 one agree. */
INLINE void plain_address(__u8 *to, const __u8 *from, __u16 family)
{
	const __u32 *words = (const __u32 *)from;
	__u32 *out = (__u32 *)to;
	out[0] = words[0];
	out[1] = words[1];
	out[2] = words[2];
	out[3] = words[3];
	if (family == AF_INET6 && words[0] == 0 && words[1] == 0 && words[2] == 0xffff0000) {
		out[0] = words[3];
		out[1] = out[2] = out[3] = 0;
	}
}

INLINE int peer_excluded(struct tuple *tuple)
{
	struct peer_key key = {};
	if (!(scope & SCOPE_PEERS))
		return 0;
	key.port = tuple->remote_port;
	if (bpf_map_lookup_elem(&excluded_peers, &key))
		return 1;
	plain_address(key.address, tuple->remote, tuple->family);
	if (bpf_map_lookup_elem(&excluded_peers, &key))
		return 1;
	key.port = 0;
	return !!bpf_map_lookup_elem(&excluded_peers, &key);
}

INLINE void tuple_of(struct tuple *tuple, struct sock *sk)
{
	__builtin_memset(tuple, 0, sizeof(*tuple));
	tuple->family = READ(sk, __sk_common.skc_family);
	tuple->local_port = READ(sk, __sk_common.skc_num);
	tuple->remote_port = __builtin_bswap16(READ(sk, __sk_common.skc_dport));
	if (tuple->family == AF_INET6) {
		bpf_probe_read_kernel(tuple->local, 16,
				      __builtin_preserve_access_index(&sk->__sk_common.skc_v6_rcv_saddr));
		bpf_probe_read_kernel(tuple->remote, 16,
				      __builtin_preserve_access_index(&sk->__sk_common.skc_v6_daddr));
	} else {
		bpf_probe_read_kernel(tuple->local, 4,
				      __builtin_preserve_access_index(&sk->__sk_common.skc_rcv_saddr));
		bpf_probe_read_kernel(tuple->remote, 4,
				      __builtin_preserve_access_index(&sk->__sk_common.skc_daddr));
	}
}

INLINE void ends_of(struct ends *ends, struct tuple *tuple, int from_the_peer)
{
	if (from_the_peer) {
		plain_address(ends->local, tuple->remote, tuple->family);
		plain_address(ends->remote, tuple->local, tuple->family);
		ends->local_port = tuple->remote_port;
		ends->remote_port = tuple->local_port;
	} else {
		plain_address(ends->local, tuple->local, tuple->family);
		plain_address(ends->remote, tuple->remote, tuple->family);
		ends->local_port = tuple->local_port;
		ends->remote_port = tuple->remote_port;
	}
}

/* The other end of weir's own connection is not looked at either: forwarding would feed itself. */
INLINE void remember_own(struct connection *connection)
{
	struct ends ends;
	__u8 one = 1;
	connection->ignored = 1;
	ends_of(&ends, &connection->tuple, 1);
	bpf_map_update_elem(&own_peers, &ends, &one, ANY);
}

INLINE void forget_own(struct connection *connection)
{
	struct ends ends;
	ends_of(&ends, &connection->tuple, 1);
	bpf_map_delete_elem(&own_peers, &ends);
}

INLINE int is_own_peer(struct tuple *tuple)
{
	struct ends ends;
	ends_of(&ends, tuple, 0);
	return !!bpf_map_lookup_elem(&own_peers, &ends);
}

/* Decides, once owner and tuple are known, whether the connection is looked at. */
INLINE void decide(struct connection *connection)
{
	if (is_self(&connection->owner)) {
		remember_own(connection);
		return;
	}
	connection->ignored = is_own_peer(&connection->tuple) || peer_excluded(&connection->tuple) ||
			      connection->owner.out_of_scope || !port_in_scope(&connection->tuple);
}

/* Whether it is not looked at, as far as is known by now. */
INLINE int is_ignored(struct connection *connection)
{
	if (connection->ignored || connection->left_out)
		return 1;
	if (!is_foreign(&connection->owner))
		return 0;
	connection->left_out = 1;
	count(COUNT_LEFT_OUT);
	return 1;
}

INLINE void tell(struct connection *connection, struct sock *sk, __u8 event, __u32 error, __u64 now)
{
	struct connection_record record;
	struct tcp_sock *tcp = (struct tcp_sock *)sk;

	__builtin_memset(&record, 0, sizeof(record));
	begin_record(&record.head, RECORD_CONNECTION, now);
	record.id = connection->id;
	record.owner = connection->owner;
	record.tuple = connection->tuple;
	record.opened_ns = connection->opened_ns;
	record.event = event;
	record.flags = connection->flags;
	record.error = error;
	if (event == CONNECTION_CLOSED || event == CONNECTION_OPENED) {
		record.rtt_us = READ(tcp, srtt_us) >> 3;
		record.retransmits = READ(tcp, total_retrans);
	}
	if (event == CONNECTION_CLOSED) {
		/* The end of the stream takes a sequence number, too, and is counted as a byte received. */
		__u64 fin = (READ(sk, __sk_common.skc_flags) >> 1) & 1; /* SOCK_DONE */
		__u64 received = READ(tcp, bytes_received);
		record.bytes_received = received - (received ? fin : 0);
		record.bytes_sent = READ(tcp, bytes_sent) - READ(tcp, bytes_retrans);
	}
	connection->announced = 1;
	emit(&record.head, sizeof(record));
}

#endif
