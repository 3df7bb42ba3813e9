/* ssl: the plain text of OpenSSL's connections, at the entry and return of SSL_read, SSL_write and their _ex forms.
 * Which connection an SSL object belongs to shows when the library reads or writes its socket within such a call, or,
 * where the program moves the encrypted bytes itself, from the last TLS connection that the thread used. */
#ifndef WEIR_SSL_H
#define WEIR_SSL_H

#include "data.h"

struct ssl_call {
	__u64 ssl;
	__u64 buffer;
	__u64 moved; /* where the _ex forms put how much they moved; 0: the return value says it */
	__u64 began_ns;
	__u32 direction;
	__u32 pad;
};

struct {
	UINT(type, MAP_LRU_HASH);
	UINT(max_entries, 8192);
	TYPE(key, __u64);
	TYPE(value, struct ssl_call);
} ssl_calls SEC(".maps");

struct ssl_key {
	__u64 ssl;
	__u64 pid;
};

struct ssl_link {
	__u64 sk;
	__u64 connection;
	__u64 by_thread;
};

struct {
	UINT(type, MAP_LRU_HASH);
	UINT(max_entries, 16384);
	TYPE(key, struct ssl_key);
	TYPE(value, struct ssl_link);
} ssl_links SEC(".maps");

/* The TLS connection that a thread used last. */
struct {
	UINT(type, MAP_LRU_HASH);
	UINT(max_entries, 8192);
	TYPE(key, __u64);
	TYPE(value, struct ssl_link);
} ssl_last SEC(".maps");

/* A socket of a TLS connection was used: within a call of the library, that call's object is its. */
INLINE void link_tls(struct connection *connection, __u64 sk)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct ssl_link link = { .sk = sk, .connection = connection->id, .by_thread = 0 };
	struct ssl_call *call = bpf_map_lookup_elem(&ssl_calls, &thread);
	if (call) {
		struct ssl_key key = { .ssl = call->ssl, .pid = thread >> 32 };
		struct ssl_link *known = bpf_map_lookup_elem(&ssl_links, &key);
		if (!known || known->connection != link.connection || known->by_thread)
			bpf_map_update_elem(&ssl_links, &key, &link, ANY);
	} else {
		link.by_thread = 1;
		bpf_map_update_elem(&ssl_last, &thread, &link, ANY);
	}
}

INLINE int ssl_entry(__u64 ssl, __u64 buffer, __u64 moved, __u32 direction)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct ssl_call call = { .ssl = ssl, .buffer = buffer, .moved = moved, .direction = direction };
	call.began_ns = bpf_ktime_get_ns();
	bpf_map_update_elem(&ssl_calls, &thread, &call, ANY);
	return 0;
}

INLINE struct connection *connection_of(struct ssl_call *call, __u64 thread, struct ssl_link *link)
{
	struct ssl_key key = { .ssl = call->ssl, .pid = thread >> 32 };
	struct ssl_link *known = bpf_map_lookup_elem(&ssl_links, &key);
	struct connection *connection;
	if (known) {
		*link = *known;
		connection = bpf_map_lookup_elem(&connections, &link->sk);
		if (connection && connection->id == link->connection)
			return connection;
	}
	known = bpf_map_lookup_elem(&ssl_last, &thread);
	if (!known)
		return 0;
	*link = *known;
	connection = bpf_map_lookup_elem(&connections, &link->sk);
	if (!connection || connection->id != link->connection)
		return 0;
	bpf_map_update_elem(&ssl_links, &key, link, ANY);
	return connection;
}

INLINE int ssl_return(__s64 ret)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct ssl_call *stored = bpf_map_lookup_elem(&ssl_calls, &thread);
	if (!stored)
		return 0;
	struct ssl_call call = *stored;
	bpf_map_delete_elem(&ssl_calls, &thread);
	__u64 total = (int)ret;
	if ((int)ret <= 0)
		return 0;
	if (call.moved && bpf_probe_read_user(&total, sizeof(total), (void *)call.moved))
		return 0;
	if (!total)
		return 0;
	struct ssl_link link;
	struct connection *connection = connection_of(&call, thread, &link);
	if (!connection) {
		count(COUNT_UNLINKED);
		return 0;
	}
	if (is_ignored(connection) || connection->protocol_tls == PROTOCOL_OTHER ||
	    connection->protocol_tls == PROTOCOL_HTTP2)
		return 0;
	struct data_slot *slot = take_slot();
	if (!slot)
		return 0;
	struct buffers buffers = { .single = call.buffer };
	struct moved moved = { .now = bpf_ktime_get_ns(), .began_ns = call.began_ns, .total = total };
	moved.direction = call.direction;
	moved.flags = DATA_TLS | (link.by_thread ? DATA_TLS_BY_THREAD : 0);
	moved.captured = gather(slot->bytes, &buffers, 0, total);
	if (moved.captured < 12)
		__builtin_memset(slot->bytes + (moved.captured & 15), 0, 12);
	plain_text(connection, (struct sock *)link.sk, slot, &moved);
	slot->taken = 0;
	return 0;
}

#if defined(__TARGET_ARCH_x86)
#define RETURNED(regs) READ(regs, ax)
#else
#define RETURNED(regs) READ(regs, regs[0])
#endif

/* The arguments of a C function, not of a system call. */
INLINE void ssl_arguments(struct pt_regs *regs, __u64 *ssl, __u64 *buffer, __u64 *fourth)
{
#if defined(__TARGET_ARCH_x86)
	*ssl = READ(regs, di);
	*buffer = READ(regs, si);
	*fourth = READ(regs, cx);
#else
	*ssl = READ(regs, regs[0]);
	*buffer = READ(regs, regs[1]);
	*fourth = READ(regs, regs[3]);
#endif
}

/* Which of the functions this is, as src/trace/kernel/libraries.rs hooks them. */
enum ssl_cookie { SSL_COOKIE_SENT = 1, SSL_COOKIE_EX = 2 };

SEC("uprobe")
int ssl_enter(struct pt_regs *regs)
{
	__u64 ssl, buffer, fourth, cookie = bpf_get_attach_cookie(regs);
	ssl_arguments(regs, &ssl, &buffer, &fourth);
	return ssl_entry(ssl, buffer, (cookie & SSL_COOKIE_EX) ? fourth : 0,
			 (cookie & SSL_COOKIE_SENT) ? DIRECTION_SENT : DIRECTION_RECEIVED);
}

SEC("uretprobe")
int ssl_exit(struct pt_regs *regs)
{
	return ssl_return(RETURNED(regs));
}

#endif
