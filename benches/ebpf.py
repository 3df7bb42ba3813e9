#!/usr/bin/env python3
"""What tracing costs those that are traced: a call that does nothing, a write, and HTTP requests on kept connections, as
fast as it goes and at 10,000 a second, with and without weir's `ebpf` source, by turns; and how long its end takes.

As root, after `cargo build --release --features ebpf`; needs python3, a C compiler, wrk and util-linux:
    python3 benches/ebpf.py [path of weir]
On a machine with other work, `chrt --rr 1` before it keeps that work out of the figures. ROUNDS (5) and DURATION (4
seconds for each measurement) say how long.
"""
import collections
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
RATE, SECONDS = 10_000, int(os.environ.get("DURATION", "4"))
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

# Requests at a fixed rate on 16 connections. Their latency counts from when each was due, so that waiting for a slow
# answer before it counts, too. Prints requests a second, then the 50th, 99th and 99.9th percentile in microseconds.
CLIENT = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
enum { CONNECTIONS = 16 };
static long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000L + t.tv_nsec;
}
static int order(const void *a, const void *b) {
  long x = *(long *)a, y = *(long *)b;
  return (x > y) - (x < y);
}
int main(int n, char **args) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(atoi(args[1]))};
  long rate = atol(args[2]), total = rate * atol(args[3]), sent = 0, done = 0, step = 1000000000L / rate;
  long *latency = malloc(total * sizeof *latency), due_of[4096];
  int idle[CONNECTIONS], idles = 0, poll = epoll_create1(0), one = 1;
  static const char request[] = "GET /hello?x=1 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";
  prctl(PR_SET_TIMERSLACK, 1);
  while (idles < CONNECTIONS) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    if (connect(fd, (void *)&at, sizeof at)) return 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e);
    idle[idles++] = fd;
  }
  long start = now(), due = start;
  while (done < total) {
    long t = now();
    while (due <= t && idles > 0 && sent < total) {
      int fd = idle[--idles];
      due_of[fd] = due, due += step, sent++;
      if (write(fd, request, sizeof request - 1) < 0) return 1;
    }
    struct epoll_event found[CONNECTIONS];
    long wait = due > t ? due - t : 0;
    struct timespec timeout = {wait / 1000000000L, wait % 1000000000L};
    int ready = epoll_pwait2(poll, found, CONNECTIONS, idles > 0 && sent < total ? &timeout : 0, 0);
    for (int i = 0; i < ready; i++) {
      char text[4096];
      if (read(found[i].data.fd, text, sizeof text) <= 0) return 1;
      latency[done++] = now() - due_of[found[i].data.fd];
      idle[idles++] = found[i].data.fd;
    }
  }
  double seconds = (now() - start) / 1e9;
  qsort(latency, total, sizeof *latency, order);
  printf("%.1f %.1f %.1f %.1f\n", total / seconds, latency[total / 2] / 1e3, latency[total * 99 / 100] / 1e3,
         latency[total / 1000 * 999] / 1e3);
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


def cpu_of(pid):
    """Seconds on a CPU, to the nanosecond, of a program with one thread."""
    return int(open(f"/proc/{pid}/schedstat").read().split()[0]) / 1e9


class Server:
    """The traced server, and what was measured of it: lists by (what, kind of tracing)."""

    def __init__(self, directory):
        self.client = compiled(directory, "client", CLIENT)
        self.process = subprocess.Popen([compiled(directory, "server", SERVER)], stdout=subprocess.PIPE, text=True)
        self.port = self.process.stdout.readline().strip()
        self.seen = collections.defaultdict(list)

    def cost(self, load):
        """What the command prints, and the server's CPU seconds."""
        before = cpu_of(self.process.pid)
        out = subprocess.run(load, capture_output=True, text=True, check=True).stdout
        return out, cpu_of(self.process.pid) - before

    def measure(self, kind):
        out, cpu = self.cost(["wrk", "-t1", "-c16", f"-d{SECONDS}s", f"http://127.0.0.1:{self.port}/"])
        self.seen["rate", kind].append(float(re.search(r"Requests/sec:\s*([\d.]+)", out).group(1)))
        self.seen["cost", kind].append(cpu * 1e6 / int(re.search(r"(\d+) requests in", out).group(1)))

    def measure_paced(self, kind):
        out, cpu = self.cost([self.client, self.port, str(RATE), str(SECONDS)])
        for what, value in zip(["paced rate", "p50", "p99", "p99.9"], out.split()):
            self.seen[what, kind].append(float(value))
        self.seen["paced cost", kind].append(cpu * 1e6 / (RATE * SECONDS))


def beside(name, unit, off, on):
    off, on = statistics.median(off), statistics.median(on)
    print(f"| {name} | {off:,.1f} {unit} | {on:,.1f} {unit} | {(on / off - 1) * 100:+.1f} % |", flush=True)


def system_calls(directory):
    program = compiled(directory, "calls", CALLS)
    for capture in ['["http"]', '["tcp", "http"]', '["stdio"]']:
        for what in ["getppid", "write"]:
            off, on = [], []
            for _ in range(ROUNDS):
                off.append(calls(program, what))
                weir = Weir(directory, capture)
                on.append(calls(program, what))
                weir.end()
            beside(f"`{what}`, `{capture}`", "ns", off, on)


def http(directory):
    server = Server(directory)
    captures, weir_cpu, logs = ['["http"]', '["tcp", "http"]'], collections.defaultdict(list), ""
    for _ in range(ROUNDS):
        for capture in ["", *captures]:
            weir = Weir(directory, capture, f"pid = [{server.process.pid}]") if capture else None
            server.measure(capture)
            before = weir.cpu() if weir else 0
            server.measure_paced(capture)
            if weir:
                weir_cpu[capture].append((weir.cpu() - before) * 1e6 / (RATE * SECONDS))
                weir.end()
                logs = weir.log()
    server.process.kill()
    for capture in captures:
        for what, name, unit in [
            ("rate", "HTTP on 16 kept connections, as fast as it goes", "requests/s"),
            ("cost", "the server's CPU a request then", "µs"),
            ("paced rate", f"HTTP at {RATE:,} requests a second", "requests/s"),
            ("paced cost", "the server's CPU a request then", "µs"),
            ("p50", "latency, median", "µs"),
            ("p99", "latency, 99 of 100 within", "µs"),
            ("p99.9", "latency, 999 of 1000 within", "µs"),
        ]:
            beside(f"{name}, `{capture}`", unit, server.seen[what, ""], server.seen[what, capture])
    for capture in captures:
        print(f"\nweir's own CPU at {RATE:,} requests a second, {capture}: "
              f"{statistics.median(weir_cpu[capture]):.1f} µs a request")
    print("the last round:", *[line for line in logs.splitlines() if "tracing ends" in line])


def teardown(directory):
    for capture in ['["tcp", "http"]', '["tcp", "http", "tls"]']:
        took = []
        for _ in range(ROUNDS):
            weir = Weir(directory, capture)
            took.append(weir.end())
        hooks = re.search(r"tls=on\([^)]*\)", weir.log())
        print(f"ending takes {statistics.median(took):.2f} s, at most {max(took):.2f} s, "
              f"{capture} {hooks.group(0) if hooks else ''}")


def main():
    with tempfile.TemporaryDirectory() as directory:
        print("| | without | with | |\n|---|---|---|---|")
        system_calls(directory)
        http(directory)
        teardown(directory)
        print("load of the machine:", *os.getloadavg(), "on", os.cpu_count(), "cores")


main()
