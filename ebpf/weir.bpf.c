/* All programs in one object, because they share their maps. They filter, copy and tag; none modifies traffic or the
 * memory of a traced program. */
#include "conn.h"
#include "http.h"
#include "ssl.h"
#include "stdio.h"

/* What src/trace/records.rs relies on. */
#define AT(type, member, offset) _Static_assert(__builtin_offsetof(struct type, member) == offset, #type "." #member)
_Static_assert(sizeof(struct record_head) == 24 && sizeof(struct owner) == 64 && sizeof(struct tuple) == 40, "parts");
_Static_assert(sizeof(struct connection_record) == 184 && sizeof(struct data_record) == 64, "records");
_Static_assert(sizeof(struct output_record) == 104, "records");
AT(owner, pid_namespace, 32);
AT(owner, comm, 40);
AT(owner, group, 56);
AT(tuple, local_port, 32);
AT(tuple, role, 38);
AT(connection_record, owner, 32);
AT(connection_record, tuple, 96);
AT(connection_record, opened_ns, 136);
AT(connection_record, error, 168);
AT(connection_record, event, 172);
AT(data_record, connection, 24);
AT(data_record, total, 48);
AT(data_record, flags, 57);
AT(output_record, fd, 88);
AT(output_record, flags, 100);

/* Some helpers are open to programs under the GPL only; the programs may be used under either. */
char _license[] SEC("license") = "Dual MIT/GPL";
