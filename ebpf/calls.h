/* Where the data of a system call lies: its number and arguments from the registers, and copying what it moved, over
 * as many buffers as it had, into a record. */
#ifndef WEIR_CALLS_H
#define WEIR_CALLS_H

#include "state.h"

enum { BUFFERS_MAX = 8 };
enum { MSG_PEEK = 0x2, MSG_TRUNC = 0x20, MSG_ERRQUEUE = 0x2000 };

#if defined(__TARGET_ARCH_x86)
enum call_number {
	CALL_READ = 0, CALL_WRITE = 1, CALL_READV = 19, CALL_WRITEV = 20, CALL_SENDTO = 44, CALL_RECVFROM = 45,
	CALL_SENDMSG = 46, CALL_RECVMSG = 47, CALL_RECVMMSG = 299, CALL_SENDMMSG = 307,
};
#else
enum call_number {
	CALL_READ = 63, CALL_WRITE = 64, CALL_READV = 65, CALL_WRITEV = 66, CALL_SENDTO = 206, CALL_RECVFROM = 207,
	CALL_SENDMSG = 211, CALL_RECVMSG = 212, CALL_RECVMMSG = 243, CALL_SENDMMSG = 269,
};
#endif

/* raw_syscalls/sys_exit as a classic tracepoint. */
struct classic_exit {
	__u64 common;
	__s64 number;
	__s64 ret;
};

struct call {
	__s64 number;
	__u64 fd;
	__u64 second;
	__u64 third;
	__u64 fourth;
};

/* The registers are those of a typed program's argument, or of bpf_task_pt_regs(): the verifier knows their type, so
 * that they are read as they are, without a helper's call for each. */
INLINE int read_call(struct call *call, struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	/* A 32-bit program's calls have other numbers. */
	if (regs->cs == 0x23)
		return 0;
	call->number = regs->orig_ax;
	call->fd = regs->di;
	call->second = regs->si;
	call->third = regs->dx;
	call->fourth = regs->r10;
#else
	call->number = regs->syscallno;
	call->fd = regs->orig_x0;
	call->second = regs->regs[1];
	call->third = regs->regs[2];
	call->fourth = regs->regs[3];
#endif
	return 1;
}

/* One buffer, or several. */
struct buffers {
	__u64 single; /* address; 0: see iov */
	__u64 iov;
	__u64 count;
};

/* How far a thread's sendmmsg() or recvmmsg() has come: each of its messages is told of by itself. A message that
 * fails or is sent in part ends the call, as the last one does. */
struct cursor {
	__u64 messages;
	__u32 next;
	__u32 sending;
};

struct {
	UINT(type, MAP_LRU_HASH);
	UINT(max_entries, 4096);
	TYPE(key, __u64);
	TYPE(value, struct cursor);
} cursors SEC(".maps");

/* The index of the message that was just moved; `moved` is what the call says of it. */
INLINE __u32 message_index(struct call *call, __s64 moved, int sending)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct cursor fresh = { .messages = call->second, .next = 0, .sending = sending };
	struct cursor *cursor = bpf_map_lookup_elem(&cursors, &thread);
	__u32 index = 0;
	if (cursor && cursor->messages == call->second && cursor->sending == (__u32)sending)
		index = cursor->next;
	fresh.next = index + 1;
	if (moved <= 0 || fresh.next >= (__u32)call->third)
		bpf_map_delete_elem(&cursors, &thread);
	else
		bpf_map_update_elem(&cursors, &thread, &fresh, ANY);
	return index;
}

/* The size of struct mmsghdr in user space. */
#define MESSAGE_SIZE 64

INLINE int buffers_of(struct buffers *buffers, struct call *call, int sending, __s64 moved)
{
	__u64 message = call->second;
	buffers->single = buffers->iov = buffers->count = 0;
	switch (call->number) {
	case CALL_READ:
	case CALL_WRITE:
	case CALL_SENDTO:
	case CALL_RECVFROM:
		buffers->single = call->second;
		return 1;
	case CALL_READV:
	case CALL_WRITEV:
		buffers->iov = call->second;
		buffers->count = call->third;
		return 1;
	case CALL_SENDMMSG:
	case CALL_RECVMMSG:
		message += (__u64)message_index(call, moved, sending) * MESSAGE_SIZE;
		/* fall through */
	case CALL_SENDMSG:
	case CALL_RECVMSG: {
		struct user_message header;
		if (moved <= 0 || bpf_probe_read_user(&header, sizeof(header), (void *)message))
			return 0;
		buffers->iov = (__u64)header.iov;
		buffers->count = header.iov_len;
		return 1;
	}
	default:
		return 0;
	}
}

/* Copies up to CAPTURE_MAX of the `total` bytes moved, from `skip` on, to `to`, which has room for twice as many
 * (what the verifier can follow). Returns how many. */
INLINE __u32 gather(__u8 *to, struct buffers *buffers, __u64 skip, __u64 total)
{
	__u64 have = 0;
	if (buffers->single) {
		__u64 n = total > CAPTURE_MAX ? CAPTURE_MAX : total;
		BARRIER(n);
		if (n > CAPTURE_MAX)
			n = CAPTURE_MAX;
		return bpf_probe_read_user(to, n, (void *)(buffers->single + skip)) ? 0 : n;
	}
#pragma unroll
	for (int i = 0; i < BUFFERS_MAX; i++) {
		struct user_iovec one;
		if (i >= buffers->count || have >= total || have >= CAPTURE_MAX)
			break;
		if (bpf_probe_read_user(&one, sizeof(one), (void *)(buffers->iov + i * sizeof(one))))
			break;
		if (skip >= one.len) {
			skip -= one.len;
			continue;
		}
		__u64 n = one.len - skip;
		if (n > total - have)
			n = total - have;
		if (n > CAPTURE_MAX - have)
			n = CAPTURE_MAX - have;
		BARRIER(n);
		if (n > CAPTURE_MAX)
			n = CAPTURE_MAX;
		__u64 at = have;
		BARRIER(at);
		at &= CAPTURE_MAX - 1;
		if (bpf_probe_read_user(to + at, n, one.base + skip))
			break;
		skip = 0;
		have += n;
	}
	return have;
}

#endif
