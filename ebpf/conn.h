/* conn: TCP connections, from the state changes of their sockets. State changes happen in whatever context handles
 * the packet, so who owns a connection is stored when the process itself calls: connect() and accept(). The tuple
 * is stored when the connection opens: at its end the local port is gone. */
#ifndef WEIR_CONN_H
#define WEIR_CONN_H

#include "state.h"

enum tcp_state { TCP_ESTABLISHED = 1, TCP_SYN_SENT = 2, TCP_SYN_RECV = 3, TCP_FIN_WAIT1 = 4, TCP_CLOSE = 7, TCP_LAST_ACK = 9,
		 TCP_LISTEN = 10 };

INLINE void listener_key_of(struct listener_key *key, struct sock *sk)
{
	struct net *net = READ(sk, __sk_common.skc_net.net);
	key->network = READ(net, ns.inum);
	key->port = READ(sk, __sk_common.skc_num);
	key->pad = 0;
}

INLINE void listening(struct sock *sk)
{
	struct listener_key key;
	struct owner owner;
	listener_key_of(&key, sk);
	current_owner(&owner);
	bpf_map_update_elem(&listeners, &key, &owner, ANY);
}

INLINE void connecting(struct sock *sk, __u64 now)
{
	struct connection connection;
	__u64 key = (__u64)sk;
	__builtin_memset(&connection, 0, sizeof(connection));
	current_owner(&connection.owner);
	connection.id = next_id();
	connection.opened_ns = now;
	connection.connecting = 1;
	connection.owned = 1;
	/* The local port is chosen after this, the remote end is known. */
	tuple_of(&connection.tuple, sk);
	connection.tuple.role = ROLE_CLIENT;
	if (bpf_map_update_elem(&connections, &key, &connection, ANY))
		count(COUNT_UNTRACKED);
}

INLINE void connected(struct sock *sk, __u64 now)
{
	__u64 key = (__u64)sk;
	struct connection *connection = bpf_map_lookup_elem(&connections, &key);
	if (!connection || !connection->connecting)
		return;
	tuple_of(&connection->tuple, sk);
	connection->tuple.role = ROLE_CLIENT;
	connection->connecting = 0;
	decide(connection);
	if (!is_ignored(connection) && (want & WANT_TCP))
		tell(connection, sk, CONNECTION_OPENED, 0, now);
}

/* The handshake of an incoming connection is done; nobody has accepted it yet. */
INLINE void arrived(struct sock *sk, __u64 now)
{
	struct connection connection;
	struct listener_key listener;
	__u64 key = (__u64)sk;
	__builtin_memset(&connection, 0, sizeof(connection));
	connection.id = next_id();
	connection.opened_ns = now;
	tuple_of(&connection.tuple, sk);
	connection.tuple.role = ROLE_SERVER;
	listener_key_of(&listener, sk);
	struct owner *owner = bpf_map_lookup_elem(&listeners, &listener);
	if (owner)
		connection.owner = *owner;
	connection.flags = CONNECTION_OWNER_GUESSED;
	if (owner && is_self(owner))
		remember_own(&connection);
	else
		connection.ignored = is_own_peer(&connection.tuple) || peer_excluded(&connection.tuple) ||
				     !port_in_scope(&connection.tuple);
	if (bpf_map_update_elem(&connections, &key, &connection, ANY))
		count(COUNT_UNTRACKED);
}

/* The current process takes the connection. */
INLINE void accepted(struct sock *sk)
{
	__u64 key = (__u64)sk;
	struct connection *connection = bpf_map_lookup_elem(&connections, &key);
	if (!connection || connection->owned)
		return;
	connection->owned = 1;
	connection->flags &= ~CONNECTION_OWNER_GUESSED;
	current_owner(&connection->owner);
	if (!connection->ignored)
		decide(connection);
	if (!is_ignored(connection) && (want & WANT_TCP))
		tell(connection, sk, CONNECTION_ACCEPTED, 0, bpf_ktime_get_ns());
}

INLINE void closed(struct sock *sk, __u64 now)
{
	__u64 key = (__u64)sk;
	struct connection *connection = bpf_map_lookup_elem(&connections, &key);
	if (!connection)
		return;
	if (is_self(&connection->owner)) {
		forget_own(connection);
	} else if (connection->connecting) {
		decide(connection);
		if (!is_ignored(connection) && (want & WANT_TCP))
			tell(connection, sk, CONNECTION_FAILED, READ(sk, sk_err), now);
	} else {
		/* One that nobody accepted is its listener's, if that is in scope. */
		if (!connection->owned && connection->owner.out_of_scope)
			connection->ignored = 1;
		/* User space forgets what it was told of when it ends. */
		if (!connection->ignored &&
		    (connection->announced || ((want & WANT_TCP) && !is_ignored(connection))))
			tell(connection, sk, CONNECTION_CLOSED, READ(sk, sk_err), now);
	}
	bpf_map_delete_elem(&connections, &key);
}

INLINE void state_changed(struct sock *sk, int before, int after)
{
	__u64 now = bpf_ktime_get_ns();
	if (READ(sk, sk_protocol) != IPPROTO_TCP)
		return;
	if (after == TCP_ESTABLISHED && before == TCP_SYN_SENT)
		connected(sk, now);
	else if (after == TCP_ESTABLISHED && before == TCP_SYN_RECV)
		arrived(sk, now);
	else if (after == TCP_SYN_SENT)
		connecting(sk, now);
	else if (after == TCP_LISTEN)
		listening(sk);
	else if (after == TCP_FIN_WAIT1 || after == TCP_LAST_ACK)
		/* The process closes: the last that is known of it, if it never used the connection. */
		accepted(sk);
	else if (after == TCP_CLOSE && before != TCP_LISTEN)
		closed(sk, now);
}

SEC("tp_btf/inet_sock_set_state")
int conn_state(__u64 *ctx)
{
	state_changed((struct sock *)ctx[0], ctx[1], ctx[2]);
	return 0;
}

/* The same as a classic tracepoint, whose arguments are at fixed offsets (see its format file). */
struct classic_state {
	__u64 common;
	struct sock *sk;
	int before;
	int after;
};

SEC("tracepoint/sock/inet_sock_set_state")
int conn_state_classic(struct classic_state *ctx)
{
	state_changed(ctx->sk, ctx->before, ctx->after);
	return 0;
}

/* inet_accept(listening socket, new socket, …): its later arguments changed over time, these did not. */
SEC("fexit/inet_accept")
int conn_accept(__u64 *ctx)
{
	struct socket *socket = (struct socket *)ctx[1];
	struct sock *sk = READ(socket, sk);
	if (sk && READ(sk, sk_protocol) == IPPROTO_TCP)
		accepted(sk);
	return 0;
}

/* Where functions cannot be hooked: a process has accepted what it uses. With HTTP these two are not needed, its own
 * programs are at the same places. Unlike the ends of system calls, they cost only those who use sockets. */
INLINE void used(struct sock *sk)
{
	if (sk->sk_protocol == IPPROTO_TCP)
		accepted(sk);
}

SEC("tp_btf/sock_send_length")
int conn_sent(__u64 *ctx)
{
	used((struct sock *)ctx[0]);
	return 0;
}

SEC("tp_btf/sock_recv_length")
int conn_received(__u64 *ctx)
{
	used((struct sock *)ctx[0]);
	return 0;
}

/* The TCP socket behind a descriptor of the current process. That it is a socket shows in its inode's type. */
INLINE struct sock *tcp_of_fd(__u64 fd)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct files_struct *files = READ(task, files);
	struct fdtable *table = READ(files, fdt);
	if (fd >= READ(table, max_fds))
		return 0;
	struct file **slot = READ(table, fd) + fd;
	struct file *file = 0;
	bpf_probe_read_kernel(&file, sizeof(file), slot);
	if (!file)
		return 0;
	struct inode *inode = READ(file, f_inode);
	if ((READ(inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	struct socket *socket = READ(file, private_data);
	struct sock *sk = READ(socket, sk);
	__u16 family = READ(sk, __sk_common.skc_family);
	if (family != AF_INET && family != AF_INET6)
		return 0;
	return READ(sk, sk_protocol) == IPPROTO_TCP ? sk : 0;
}

/* Where neither is there: the ends of accept() and accept4(), among those of all calls. */
SEC("tp_btf/sys_exit")
int conn_accept_call(__u64 *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	__s64 fd = ctx[1];
#if defined(__TARGET_ARCH_x86)
	__u64 call = regs->orig_ax;
	if (call != 43 && call != 288)
		return 0;
#else
	__s32 call = regs->syscallno;
	if (call != 202 && call != 242)
		return 0;
#endif
	if (fd < 0)
		return 0;
	struct sock *sk = tcp_of_fd(fd);
	if (sk)
		accepted(sk);
	return 0;
}

#endif
