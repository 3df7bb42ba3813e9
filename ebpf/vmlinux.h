/* The few kernel types that the programs read, by hand: only the members that are used, in any order. Their real
 * offsets are filled in when the programs are loaded, from the running kernel's own type information (BTF), which
 * is what preserve_access_index asks for. */
#ifndef WEIR_VMLINUX_H
#define WEIR_VMLINUX_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed int __s32;
typedef signed long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct in6_addr {
	union {
		__u8 u6_addr8[16];
		__be32 u6_addr32[4];
	} in6_u;
};

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	union {
		struct {
			__be32 skc_daddr;
			__be32 skc_rcv_saddr;
		};
	};
	union {
		struct {
			__be16 skc_dport;
			__u16 skc_num;
		};
	};
	unsigned short skc_family;
	unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	union {
		unsigned long skc_flags;
	};
};

struct inode {
	unsigned short i_mode;
};

struct file {
	void *private_data;
	struct inode *f_inode;
};

struct sock;

struct socket {
	struct file *file;
	struct sock *sk;
};

struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket;
	__u16 sk_protocol;
	int sk_err;
};

struct tcp_sock {
	__u32 srtt_us;
	__u64 bytes_received;
	__u64 bytes_sent;
	__u64 bytes_retrans;
	__u32 total_retrans;
};

struct pid_namespace {
	unsigned int level;
	struct ns_common ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct css_set {
	struct cgroup_subsys_state *subsys[16]; /* how many there are is asked of the kernel */
};

struct task_struct {
	unsigned int flags;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	__u64 start_time;
	struct files_struct *files;
	struct css_set *cgroups;
	char comm[16];
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r10, r9, r8, ax, cx, dx, si, di, orig_ax;
	unsigned short cs; /* a whole word before Linux 6.9: the low half tells as much */
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	__u64 regs[31];
};
struct pt_regs {
	union {
		struct {
			__u64 regs[31];
		};
	};
	__u64 orig_x0;
	__s32 syscallno;
};
#else
#error "the programs know the registers of x86_64 and aarch64 only"
#endif

#pragma clang attribute pop

/* User space's types: their layout is fixed, nothing is looked up. */
struct user_iovec {
	void *base;
	__u64 len;
};

struct user_message {
	void *name;
	__u32 name_len;
	__u32 pad;
	struct user_iovec *iov;
	__u64 iov_len;
	void *control;
	__u64 control_len;
	__u32 flags;
	__u32 pad2;
};

#endif
