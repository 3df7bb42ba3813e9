/* What a BPF program needs of its environment: sections, map definitions, the kernel's helpers by their fixed
 * numbers (include/uapi/linux/bpf.h). libbpf's headers are not needed to build weir. */
#ifndef WEIR_BPF_H
#define WEIR_BPF_H

#include "vmlinux.h"

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define UINT(name, value) int (*name)[value]
#define TYPE(name, value) typeof(value) *name

enum {
	MAP_HASH = 1,
	MAP_ARRAY = 2,
	MAP_PERCPU_ARRAY = 6,
	MAP_LRU_HASH = 9,
	MAP_RINGBUF = 27,
};

enum {
	ANY = 0,
	NO_WAKEUP = 1,
};

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static long (*bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static __u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static __u32 (*bpf_get_smp_processor_id)(void) = (void *)8;
static __u64 (*bpf_get_current_pid_tgid)(void) = (void *)14;
static __u64 (*bpf_get_current_uid_gid)(void) = (void *)15;
static long (*bpf_get_current_comm)(void *buf, __u32 size) = (void *)16;
static __u64 (*bpf_get_current_task)(void) = (void *)35;
static __u64 (*bpf_get_current_cgroup_id)(void) = (void *)80;
static long (*bpf_probe_read_user)(void *to, __u32 size, const void *from) = (void *)112;
static long (*bpf_probe_read_kernel)(void *to, __u32 size, const void *from) = (void *)113;
static __u64 (*bpf_get_current_ancestor_cgroup_id)(int level) = (void *)123;
static long (*bpf_ringbuf_output)(void *ring, void *data, __u64 size, __u64 flags) = (void *)130;
static struct task_struct *(*bpf_get_current_task_btf)(void) = (void *)158;
static __u64 (*bpf_get_attach_cookie)(void *ctx) = (void *)174;
static long (*bpf_task_pt_regs)(struct task_struct *task) = (void *)175;
static long (*bpf_loop)(__u32 turns, void *callback, void *with, __u64 flags) = (void *)181;

/* Reads one member of a kernel struct through a pointer that the verifier does not know the type of. */
#define READ(pointer, member)                                                                                  \
	({                                                                                                     \
		typeof((pointer)->member) value__ = 0;                                                         \
		bpf_probe_read_kernel(&value__, sizeof(value__),                                               \
				      __builtin_preserve_access_index(&(pointer)->member));                    \
		value__;                                                                                       \
	})

#define READ_INTO(to, pointer, member)                                                                         \
	bpf_probe_read_kernel((to), sizeof(*(to)), __builtin_preserve_access_index(&(pointer)->member))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* The size of a member in the running kernel. */
#define SIZE(pointer, member) __builtin_preserve_field_info((pointer)->member, 1)

/* A length the verifier can see is bounded, without the compiler undoing it. */
#define BARRIER(x) asm volatile("" : "+r"(x))

#endif
