/* All programs in one object, because they share their maps. They filter, copy and tag; none modifies traffic or the
 * memory of a traced program. */
#include "conn.h"
#include "http.h"
#include "ssl.h"
#include "stdio.h"

/* Some helpers are open to programs under the GPL only; the programs may be used under either. */
char _license[] SEC("license") = "Dual MIT/GPL";
