/* stdio: what chosen processes write to their standard output and error. Nothing is looked at without a scope. The
 * end of the call has all that is needed: which call, its arguments, and how much was written. */
#ifndef WEIR_STDIO_H
#define WEIR_STDIO_H

#include "calls.h"

/* Most records for one call. */
enum { OUTPUT_RECORDS_MAX = 32 };

struct output_slot {
	__u64 taken;
	struct output_record record;
	__u8 bytes[2 * CAPTURE_MAX];
};

struct {
	UINT(type, MAP_PERCPU_ARRAY);
	UINT(max_entries, 2);
	TYPE(key, __u32);
	TYPE(value, struct output_slot);
} output_slots SEC(".maps");

INLINE struct output_slot *take_output_slot(void)
{
#pragma unroll
	for (__u32 i = 0; i < 2; i++) {
		__u32 key = i;
		struct output_slot *slot = bpf_map_lookup_elem(&output_slots, &key);
		if (slot && !__sync_lock_test_and_set(&slot->taken, 1))
			return slot;
	}
	count(COUNT_TRIED);
	count(COUNT_DROPPED);
	return 0;
}

/* How far the copying of one call has come. */
struct progress {
	struct output_slot *slot;
	struct buffers buffers;
	__u64 index; /* the buffer */
	__u64 at;    /* the place in it */
	__u64 left;
	__u64 now;
};

/* Hands over one part: a buffer of the call, or CAPTURE_MAX bytes of it. Returns 1 at the end. */
static long hand_over_part(__u32 turn, struct progress *progress)
{
	struct output_slot *slot = progress->slot;
	struct user_iovec one = {};
	if (progress->buffers.single) {
		one.base = (void *)progress->buffers.single;
		one.len = progress->at + progress->left;
	} else {
		__u64 from = progress->buffers.iov + progress->index * sizeof(one);
		if (progress->index >= progress->buffers.count || bpf_probe_read_user(&one, sizeof(one), (void *)from))
			return 1;
	}
	void *start = one.base + progress->at;
	__u64 n = one.len - progress->at;
	if (n > progress->left)
		n = progress->left;
	if (n > CAPTURE_MAX) {
		n = CAPTURE_MAX;
		progress->at += CAPTURE_MAX;
	} else {
		progress->index++;
		progress->at = 0;
	}
	progress->left -= n;
	if (!n && progress->left)
		return 0;
	BARRIER(n);
	if (n > CAPTURE_MAX)
		n = CAPTURE_MAX;
	begin_record(&slot->record.head, RECORD_OUTPUT, progress->now);
	slot->record.flags = !progress->left	       ? 0
			     : turn + 1 < OUTPUT_RECORDS_MAX ? OUTPUT_CONTINUES
							     : OUTPUT_CUT;
	if (bpf_probe_read_user(slot->bytes, n, start)) {
		slot->record.flags = OUTPUT_CUT;
		n = 0;
	}
	slot->record.captured = n;
	emit(&slot->record.head, sizeof(slot->record) + n);
	return slot->record.flags != OUTPUT_CONTINUES;
}

INLINE void written(struct pt_regs *regs, __s64 ret)
{
	struct call call;
	struct buffers buffers;
	if (ret <= 0 || !read_call(&call, regs))
		return;
	if (call.number != CALL_WRITE && call.number != CALL_WRITEV)
		return;
	if (call.fd != 1 && call.fd != 2)
		return;
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	if ((scope & SCOPE_PID) && !bpf_map_lookup_elem(&scope_pids, &pid))
		return;
	struct output_slot *slot = take_output_slot();
	if (!slot)
		return;
	current_owner(&slot->record.owner);
	if (is_self(&slot->record.owner) || slot->record.owner.out_of_scope) {
		/* Nobody asked for it. */
	} else if (is_foreign(&slot->record.owner)) {
		count(COUNT_LEFT_OUT);
	} else if (buffers_of(&buffers, &call, 1, ret)) {
		slot->record.fd = call.fd;
		slot->record.total = ret;
		struct progress progress = { .slot = slot, .buffers = buffers, .left = ret };
		progress.now = bpf_ktime_get_ns();
		bpf_loop(OUTPUT_RECORDS_MAX, hand_over_part, &progress, 0);
	}
	slot->taken = 0;
}

/* Reads the registers directly, as only programs with typed arguments may. */
INLINE int is_output_call(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return (regs->orig_ax == CALL_WRITE || regs->orig_ax == CALL_WRITEV) && regs->di - 1 < 2;
#else
	return (regs->syscallno == CALL_WRITE || regs->syscallno == CALL_WRITEV) && regs->orig_x0 - 1 < 2;
#endif
}

SEC("tp_btf/sys_exit")
int stdio_written(__u64 *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	/* Every call of every process ends here: most go on their way at once. */
	if (is_output_call(regs))
		written(regs, ctx[1]);
	return 0;
}

SEC("tracepoint/raw_syscalls/sys_exit")
int stdio_written_classic(struct classic_exit *ctx)
{
	written((struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf()), ctx->ret);
	return 0;
}

#endif
