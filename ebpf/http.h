/* http: what sockets send and receive. The tracepoints fire at the end of the socket's own send and receive, in the
 * process that called, with the socket at hand; calls that touch no socket cost nothing. Where the data lies is read
 * from the registers of the system call. */
#ifndef WEIR_HTTP_H
#define WEIR_HTTP_H

#include "data.h"
#include "ssl.h"

/* A connection that was open before the programs were. */
INLINE struct connection *adopt(struct sock *sk, __u64 now)
{
	struct connection connection;
	__u64 key = (__u64)sk;
	__u8 state = READ(sk, __sk_common.skc_state);
	if (state == TCP_CLOSE || state == TCP_LISTEN || state == TCP_SYN_SENT)
		return 0;
	__builtin_memset(&connection, 0, sizeof(connection));
	connection.id = next_id();
	connection.opened_ns = now;
	connection.flags = CONNECTION_BEFORE;
	connection.owned = 1;
	tuple_of(&connection.tuple, sk);
	current_owner(&connection.owner);
	decide(&connection);
	if (bpf_map_update_elem(&connections, &key, &connection, ANY)) {
		count(COUNT_UNTRACKED);
		return 0;
	}
	return bpf_map_lookup_elem(&connections, &key);
}

/* A worker of io_uring does what another thread asked for: its registers tell nothing. */
INLINE int is_in_call(void)
{
	return !(bpf_get_current_task_btf()->flags & (PF_KTHREAD | PF_IO_WORKER));
}

/* Sockets of the kernel itself (network file systems) have no file, and their data is not the caller's. */
INLINE int is_users(struct sock *sk)
{
	if (bpf_get_current_task_btf()->flags & PF_KTHREAD)
		return 0;
	struct socket *socket = READ(sk, sk_socket);
	return socket && READ(socket, file) != 0;
}

INLINE void moved_on_socket(struct sock *sk, __s64 ret, int flags, int direction, struct pt_regs *regs)
{
	__u64 key = (__u64)sk;
	struct call call;
	struct buffers buffers;

	if (flags & (MSG_PEEK | MSG_ERRQUEUE))
		return;
	struct connection *connection = bpf_map_lookup_elem(&connections, &key);
	if (!connection) {
		if (ret <= 0 || !is_users(sk))
			return;
		connection = adopt(sk, bpf_ktime_get_ns());
		if (!connection)
			return;
	}
	/* weir's end of it may have been seen after the other. */
	if ((connection->flags & CONNECTION_BEFORE) && !connection->ignored)
		connection->ignored = is_own_peer(&connection->tuple);
	if (is_ignored(connection) || connection->protocol == PROTOCOL_OTHER || connection->protocol == PROTOCOL_HTTP2)
		return;
	if (!connection->owned) {
		accepted(sk);
		if (is_ignored(connection))
			return;
	}
	if (connection->protocol == PROTOCOL_TLS) {
		if (want & WANT_TLS)
			link_tls(connection, key);
		return;
	}
	int reachable = is_in_call() && read_call(&call, regs) &&
			buffers_of(&buffers, &call, direction == DIRECTION_SENT, ret);
	if (ret <= 0)
		return;
	struct data_slot *slot = take_slot();
	if (!slot)
		return;
	struct moved moved = { .now = bpf_ktime_get_ns(), .total = ret, .direction = direction };
	if (reachable && !(flags & MSG_TRUNC))
		moved.captured = gather(slot->bytes, &buffers, 0, ret);
	if (!moved.captured)
		count(COUNT_UNREADABLE);
	/* What lies behind the captured bytes is of an earlier record. */
	if (moved.captured < 12)
		__builtin_memset(slot->bytes + (moved.captured & 15), 0, 12);
	plain_text(connection, sk, slot, &moved);
	if (connection->protocol == PROTOCOL_TLS && (want & WANT_TLS))
		link_tls(connection, key);
	slot->taken = 0;
}

SEC("tp_btf/sock_send_length")
int http_sent(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	moved_on_socket(sk, (int)ctx[1], 0, DIRECTION_SENT, regs);
	return 0;
}

SEC("tp_btf/sock_recv_length")
int http_received(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	moved_on_socket(sk, (int)ctx[1], ctx[2], DIRECTION_RECEIVED, regs);
	return 0;
}

/* Where these tracepoints are missing (before Linux 6.3): the ends of the system calls themselves. Of the messages of
 * one sendmmsg() or recvmmsg(), only the first is read, the others are counted. */
INLINE void moved_by_call(struct pt_regs *regs, __s64 ret)
{
	struct call call;
	int direction = DIRECTION_RECEIVED, flags = 0;
	if (ret <= 0 || !read_call(&call, regs))
		return;
	switch (call.number) {
	case CALL_WRITE:
	case CALL_WRITEV:
	case CALL_SENDTO:
	case CALL_SENDMSG:
		direction = DIRECTION_SENT;
		break;
	case CALL_READ:
	case CALL_READV:
		break;
	case CALL_RECVFROM:
		flags = call.fourth;
		break;
	case CALL_RECVMSG:
		flags = call.third;
		break;
	case CALL_SENDMMSG:
		direction = DIRECTION_SENT;
		/* fall through */
	case CALL_RECVMMSG: {
		__u32 moved = 0;
		if (ret > 1)
			count(COUNT_UNREADABLE);
		if (bpf_probe_read_user(&moved, sizeof(moved), (void *)(call.second + MESSAGE_SIZE - 8)))
			return;
		ret = moved;
		break;
	}
	default:
		return;
	}
	struct sock *sk = tcp_of_fd(call.fd);
	if (sk)
		moved_on_socket(sk, ret, flags, direction, regs);
}

SEC("tp_btf/sys_exit")
int http_call(__u64 *ctx)
{
	moved_by_call((struct pt_regs *)ctx[0], ctx[1]);
	return 0;
}

SEC("tracepoint/raw_syscalls/sys_exit")
int http_call_classic(struct classic_exit *ctx)
{
	moved_by_call((struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf()), ctx->ret);
	return 0;
}

#endif
