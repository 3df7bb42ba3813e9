#!/usr/bin/env python3
"""What tracing costs those that are traced: a call that does nothing, a write, and HTTP requests on kept connections,
with and without weir's `ebpf` source, by turns.

As root, after `cargo build --release --features ebpf`; needs python3, a C compiler, wrk and util-linux:
    python3 benches/ebpf.py [path of weir]
"""
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

WEIR = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "target/release/weir")
ROUNDS = int(os.environ.get("ROUNDS", "5"))
CALLS = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <fcntl.h>
#include <unistd.h>
/* CPU nanoseconds a call: other load on the machine does not count. */
int main(int n, char **what) {
  int writes = !strcmp(what[1], "write"), fd = open("/dev/null", O_WRONLY), turns = 2000000;
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  for (int i = 0; i < turns; i++) writes ? (void)!write(fd, "x", 1) : (void)syscall(SYS_getppid);
  getrusage(RUSAGE_SELF, &after);
  double us = (after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1e6
      + after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_stime.tv_usec;
  printf("%.1f\n", us * 1000 / turns);
}
"""
# An epoll loop that answers whatever comes: the cheapest server there is, so that tracing shows most.
SERVER = r"""
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof at;
  int listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0), one = 1;
  bind(listener, (void *)&at, size), listen(listener, 128), getsockname(listener, (void *)&at, &size);
  printf("%d\n", ntohs(at.sin_port)), fflush(stdout);
  struct epoll_event e = {.events = EPOLLIN, .data.fd = listener}, found[64];
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &e);
  static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\nContent-Type: text/plain\r\n\r\nhello, world\n";
  for (char text[4096];;)
    for (int n = epoll_wait(poll, found, 64, -1); n-- > 0;) {
      int fd = found[n].data.fd;
      if (fd == listener) {
        e.data.fd = accept(listener, 0, 0);
        setsockopt(e.data.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        epoll_ctl(poll, EPOLL_CTL_ADD, e.data.fd, &e);
      } else if (read(fd, text, sizeof text) <= 0 || write(fd, answer, sizeof answer - 1) < 0)
        close(fd);
    }
}
"""


def compiled(directory, name, text):
    source, program = os.path.join(directory, name + ".c"), os.path.join(directory, name)
    open(source, "w").write(text)
    subprocess.run(["cc", "-O2", "-w", "-o", program, source], check=True)
    return program


class Weir:
    def __init__(self, directory, capture, scope="comm = [\"nobody\"]"):
        config = os.path.join(directory, "bench.toml")
        open(config, "w").write(
            f"[server]\nenabled = false\n[[pipelines]]\nname = \"k\"\n[[pipelines.sources]]\ntype = \"ebpf\"\n"
            f"capture = {capture}\nscope = {{ {scope} }}\n[[pipelines.sinks]]\ntype = \"null\"\n")
        self.errors = open(os.path.join(directory, "weir.err"), "w+")
        self.process = subprocess.Popen([WEIR, "-c", config, "--logging.level=debug"], stderr=self.errors, cwd=directory)
        while "started, " not in self.log():
            assert self.process.poll() is None, self.log()
            time.sleep(0.05)

    def log(self):
        return open(self.errors.name).read()

    def cpu(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        start = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        return time.monotonic() - start


def calls(program, what):
    return float(subprocess.run([program, what], capture_output=True, text=True, check=True).stdout)


def server_cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def requests(port, server):
    """Requests a second, and CPU microseconds of the server a request."""
    before = server_cpu(server)
    out = subprocess.run(["wrk", "-t1", "-c16", "-d4s", f"http://127.0.0.1:{port}/"], capture_output=True, text=True).stdout
    total = int(re.search(r"(\d+) requests in", out).group(1))
    rate = float(re.search(r"Requests/sec:\s*([\d.]+)", out).group(1))
    return rate, (server_cpu(server) - before) * 1e6 / total


def beside(name, unit, off, on, less_is_better):
    off_median, on_median = statistics.median(off), statistics.median(on)
    change = (on_median / off_median - 1) * 100
    print(f"| {name} | {off_median:.1f} {unit} | {on_median:.1f} {unit} | {change:+.1f} % |", flush=True)
    return change if less_is_better else -change


def main():
    with tempfile.TemporaryDirectory() as directory:
        call, serve = compiled(directory, "calls", CALLS), compiled(directory, "server", SERVER)
        print("| | without | with | |\n|---|---|---|---|")
        for capture in ['["http"]', '["tcp", "http"]', '["stdio"]']:
            for what in ["getppid", "write"]:
                off, on = [], []
                for _ in range(ROUNDS):
                    off.append(calls(call, what))
                    weir = Weir(directory, capture)
                    on.append(calls(call, what))
                    weir.end()
                beside(f"{what}, `{capture}`", "ns", off, on, True)
        server = subprocess.Popen([serve], stdout=subprocess.PIPE, text=True)
        port = int(server.stdout.readline())
        rates, costs, teardown, weir_cpu, logs = ([], []), ([], []), [], [], ""
        for _ in range(ROUNDS):
            for traced in (0, 1):
                weir = Weir(directory, '["http"]', f"pid = [{server.pid}]") if traced else None
                before = weir.cpu() if weir else 0
                rate, cost = requests(port, server.pid)
                rates[traced].append(rate)
                costs[traced].append(cost)
                if weir:
                    weir_cpu.append((weir.cpu() - before) * 1e6 / (rate * 4))
                    teardown.append(weir.end())
                    logs = weir.log()
        beside("HTTP on 16 kept connections, as fast as it goes", "requests/s", *rates, False)
        beside("the server's CPU a request", "µs", *costs, True)
        print(f"\nweir's own CPU: {statistics.median(weir_cpu):.1f} µs a request; teardown {max(teardown):.2f} s at most")
        print("the last round:", *[line for line in logs.splitlines() if "tracing ends" in line])
        server.kill()


main()
