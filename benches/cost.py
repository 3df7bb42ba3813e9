#!/usr/bin/env python3
"""What a running weir costs in CPU seconds and memory, beside a bare copy of the same bytes. Needs python3 and dd.

usage: cargo build --release && python3 benches/cost.py [files|sse|idle|buffer]... [--weir target/release/weir]
files: 600 MiB of application log through file -> file, raw, filtered and as JSON, and file -> tcp; dd as the floor.
sse:   1,000 subscribers on one pipeline at 2,000 events of 120 bytes a second for ten seconds.
idle:  start to ready, resident memory, what 5,000 idle subscribers add, and what 1,000 quiet files cost.
buffer: what writing costs dd, into a new file and over an old one; then the same flow with a memory buffer, with a
       disk buffer, and with one that writes every row, three times each; then 4 GiB that wait on disk: from the start
       of the program to the first byte at the receiver.
CPU is user + system time of the weir process alone.
"""
import argparse, itertools, multiprocessing, os, resource, selectors, shutil, signal, socket, subprocess, sys, tempfile, threading, time

ARGS = None


def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid, key):
    return next(int(l.split()[1]) for l in open(f"/proc/{pid}/status") if l.startswith(key))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Weir:
    """A weir with a config, ended at the end of the block."""

    def __init__(self, directory, config, port=None):
        self.path, self.port = os.path.join(directory, "weir.toml"), port
        server = f'listen = "127.0.0.1:{port}"' if port else "enabled = false"
        with open(self.path, "w") as f:
            f.write(f'state_dir = "{directory}/state"\n[logging]\nlevel = "error"\n[server]\n{server}\n{config}')

    def __enter__(self):
        self.process = subprocess.Popen([ARGS.weir, "run", "-c", self.path], stdin=subprocess.DEVNULL)
        self.pid = self.process.pid
        return self

    def ready(self):
        request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        for _ in range(20000):
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                    s.sendall(request)
                    if b" 200 " in s.recv(200):
                        return
            except OSError:
                pass
            time.sleep(0.0005)
        sys.exit("weir did not become ready")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


PIPELINE = '[[pipelines]]\nname = "app"\n'
INCLUDE = '[[pipelines.filters]]\ntype = "include"\npatterns = ["ERROR|WARN"]\n'


def write_input(path, mib):
    """Application log lines of about 110 bytes, one in five an error or a warning; returns how many."""
    levels = ["INFO", "INFO", "DEBUG", "INFO", "ERROR"]
    block, n = [], 0
    while n < 100_000:
        block.append(f"2026-11-20 10:11:12.{n % 1000:03} {levels[n % 5]} [cart-3] cart - request completed id={n} ip=10.1.{n % 250}.3 took={n % 3000}ms\n")
        n += 1
    data = "".join(block).encode()
    copies = max(1, mib * 2**20 // len(data))
    with open(path, "wb") as f:
        for _ in range(copies):
            f.write(data)
    return copies * n


def row(name, seconds, size, extra=""):
    print(f"{name:22} {seconds:6.2f} cpu-s  {size / 2**20 / max(seconds, 1e-6):8.0f} MiB per cpu-s  {extra}", flush=True)


def until_still(read, quiet=1.0):
    last, since = read(), time.time()
    while time.time() - since < quiet:
        time.sleep(0.02)
        now = read()
        if now != last:
            last, since = now, time.time()
    return last


def file_to_file(directory, source, size, name, filters, options):
    out = f"{directory}/out.log"
    for leftover in (out, f"{directory}/state"):
        subprocess.run(["rm", "-rf", leftover])
    config = f'{PIPELINE}[[pipelines.sources]]\ntype = "file"\npath = "{source}"\n{filters}[[pipelines.sinks]]\ntype = "file"\npath = "{out}"\n{options}'
    with Weir(directory, config) as weir:
        time.sleep(0.2)
        until_still(lambda: os.path.getsize(out) if os.path.exists(out) else 0)
        spent, peak = cpu(weir.pid), memory(weir.pid, "VmHWM")
    lines = subprocess.check_output(["wc", "-l", out]).split()[0].decode()
    row(name, spent, size, f"{lines} lines, {peak / 1024:.1f} MiB at most")


def file_to_tcp(directory, source, size, name, filters):
    """Grows a file at 200 MiB/s, as fast as a reader in another process surely follows."""
    port, grown = free_port(), f"{directory}/grown.log"
    open(grown, "w").close()
    subprocess.run(["rm", "-rf", f"{directory}/state"])
    config = f'{PIPELINE}[[pipelines.sources]]\ntype = "file"\npath = "{grown}"\n{filters}[[pipelines.sinks]]\ntype = "tcp"\nlisten = "127.0.0.1:{port}"\nformat = {{ type = "raw" }}\n'
    with Weir(directory, config) as weir:
        time.sleep(0.5)
        reader = subprocess.Popen(["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}; cat <&3 | wc -l"], stdout=subprocess.PIPE, text=True)
        time.sleep(0.5)
        before, peak = cpu(weir.pid), 0
        with open(source, "rb") as i, open(grown, "ab", buffering=0) as o:
            while block := i.read(1 << 20):
                o.write(block)
                time.sleep(0.005)
        time.sleep(1)
        spent, peak = cpu(weir.pid) - before, memory(weir.pid, "VmHWM")
    row(name, spent, size, f"{reader.communicate()[0].strip()} lines, {peak / 1024:.1f} MiB at most")


def floor(name, source, target, size, *how):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(["dd", f"if={source}", f"of={target}", "status=none", *how], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    row(f"floor: {name}", after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, size)


def files():
    directory = tempfile.mkdtemp(prefix="weir-cost-")
    try:
        source = f"{directory}/in.log"
        lines = write_input(source, 600)
        size = os.path.getsize(source)
        print(f"{lines} lines, {size / 2**20:.0f} MiB")
        for _ in range(3):
            floor("dd bs=256k", source, f"{directory}/out.log", size, "bs=256k")
            file_to_file(directory, source, size, "file -> file", "", "")
            file_to_file(directory, source, size, "file -> include -> file", INCLUDE, "")
        file_to_file(directory, source, size, "file -> file, JSON", "", 'format = { type = "json" }\n')
        for _ in range(3):
            file_to_tcp(directory, source, size, "file -> tcp", "")
            file_to_tcp(directory, source, size, "file -> include -> tcp", INCLUDE)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def subscribe(port, count):
    sockets = []
    for _ in range(count):
        s = socket.create_connection(("127.0.0.1", port))
        s.sendall(b"GET /app/stream HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        sockets.append(s)
    return sockets


def count_events(sockets, total, counts):
    """Counts `data:` lines of rows, for every subscriber; the last bytes of each read are kept for words cut in two."""
    selector, tails = selectors.DefaultSelector(), {}
    for i, s in enumerate(sockets):
        s.setblocking(False)
        selector.register(s, selectors.EVENT_READ, i)
        tails[i] = b""
    buffer, deadline = bytearray(1 << 20), time.time() + 60
    while time.time() < deadline and min(counts) < total:
        for key, _ in selector.select(1):
            n = key.fileobj.recv_into(buffer)
            text = tails[key.data] + buffer[:n]
            counts[key.data] += text.count(b"\ndata: {\"timestamp\"")
            tails[key.data] = text[-18:] if n else b""


def sse(subscribers=1000, rate=2000, seconds=10):
    directory, port = tempfile.mkdtemp(prefix="weir-cost-"), free_port()
    log = f"{directory}/app.log"
    open(log, "w").close()
    config = f'{PIPELINE}[[pipelines.sources]]\ntype = "file"\npath = "{log}"\n[[pipelines.sinks]]\ntype = "http"\nmax_connections = {subscribers + 10}\n'
    try:
        with Weir(directory, config, port) as weir:
            weir.ready()
            sockets, counts = subscribe(port, subscribers), [0] * subscribers
            time.sleep(1)
            reader = threading.Thread(target=count_events, args=(sockets, rate * seconds, counts))
            reader.start()
            before, line = cpu(weir.pid), b"2026-11-20 10:11:12.123 INFO [cart-3] cart - request completed ".ljust(119, b"x") + b"\n"
            start, sent = time.time(), 0
            with open(log, "ab", buffering=0) as f:
                while sent < rate * seconds:
                    due = min(int((time.time() - start) * rate), rate * seconds)
                    f.write(line * (due - sent))
                    sent = due
                    time.sleep(0.01)
            reader.join()
            spent, events = cpu(weir.pid) - before, sum(counts)
            print(f"{subscribers} subscribers, {rate} events/s: each got {min(counts)} to {max(counts)} of {rate * seconds}; "
                  f"{spent:.2f} cpu-s, {spent / events * 1e6:.3f} per million delivered; {memory(weir.pid, 'VmHWM') / 1024:.1f} MiB at most", flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def idle(subscribers=5000):
    directory, port = tempfile.mkdtemp(prefix="weir-cost-"), free_port()
    config = f'{PIPELINE}[[pipelines.sources]]\ntype = "generate"\nevents_per_second = 0.01\n[[pipelines.sinks]]\ntype = "http"\nmax_connections = {subscribers + 10}\n'
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    try:
        starts = []
        for _ in range(10):
            begin = time.perf_counter()
            with Weir(directory, config, port) as weir:
                weir.ready()
                starts.append((time.perf_counter() - begin) * 1000)
        with Weir(directory, config, port) as weir:
            weir.ready()
            time.sleep(1)
            before = memory(weir.pid, "VmRSS")
            sockets = subscribe(port, subscribers)
            time.sleep(2)
            answered = sum(b" 200 " in s.recv(100) for s in sockets)
            each = (memory(weir.pid, "VmRSS") - before) / subscribers
        print(f"start to ready: {sorted(starts)[5]:.1f} ms; idle: {before / 1024:.1f} MiB; "
              f"{answered} idle subscribers: {each:.1f} KiB each", flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def quiet(files=1000, seconds=20):
    directory = tempfile.mkdtemp(prefix="weir-cost-")
    os.mkdir(f"{directory}/logs")
    for i in range(files):
        with open(f"{directory}/logs/{i}.log", "w") as f:
            f.write(f"only line of file {i}\n")
    config = f'{PIPELINE}[[pipelines.sources]]\ntype = "file"\npath = "{directory}/logs/*.log"\n[[pipelines.sinks]]\ntype = "null"\n'
    try:
        with Weir(directory, config) as weir:
            time.sleep(5)
            before = cpu(weir.pid)
            time.sleep(seconds)
            spent, resident = cpu(weir.pid) - before, memory(weir.pid, "VmRSS")
        print(f"{files} quiet files: {spent / seconds * 100:.2f} % of a core, {resident / 1024:.1f} MiB", flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def drain(kind, port, taken):
    """Takes everything on one port in a process of its own; HTTP requests are answered with 200."""
    listener = socket.create_server(("127.0.0.1", port))

    def serve(s):
        buffer = bytearray(1 << 20)
        if kind == "tcp":
            while n := s.recv_into(buffer):
                taken.value += n
            return
        held = b""
        while True:
            while b"\r\n\r\n" not in held:
                if not (got := s.recv(65536)):
                    return
                held += got
            head, held = held.split(b"\r\n\r\n", 1)
            length = next(int(l.split(b":")[1]) for l in head.split(b"\r\n") if l.lower().startswith(b"content-length:"))
            left = length - len(held)
            held = held[length:] if left < 0 else b""
            while left > 0 and (n := s.recv_into(buffer, min(left, len(buffer)))):
                left -= n
            s.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            with taken.get_lock():
                taken.value += length

    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


class Receiver:
    def __init__(self, kind):
        self.port, self.taken = free_port(), multiprocessing.Value("q", 0)
        self.process = multiprocessing.Process(target=drain, args=(kind, self.port, self.taken), daemon=True)

    def __enter__(self):
        self.process.start()
        while subprocess.run(["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{self.port}"], stderr=subprocess.DEVNULL).returncode:
            time.sleep(0.02)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.join()


BUFFERS = {
    "memory": "",
    "disk": 'buffer = { type = "disk", max_bytes = "6GiB" }\n',
    "disk, all of it written": 'buffer = { type = "disk", max_bytes = "6GiB", sync_interval = "0s" }\n',
}


def flow(source, sink, port, buffer):
    to = {"tcp": f'type = "tcp_client"\naddress = "127.0.0.1:{port}"\nformat = {{ type = "raw" }}\n',
          "http": f'type = "http_client"\nurl = "http://127.0.0.1:{port}/"\n'}[sink]
    return f'{PIPELINE}[[pipelines.sources]]\n{source}[[pipelines.sinks]]\n{to}{buffer}'


def from_file(path):
    return f'type = "file"\npath = "{path}"\n'


def send(path, port):
    """A client that sends a whole file as fast as it is taken."""
    until = time.time() + 10
    while True:
        try:
            client = socket.create_connection(("127.0.0.1", port))
            break
        except ConnectionRefusedError:
            if time.time() > until:
                raise
            time.sleep(0.01)
    with open(path, "rb") as i, client:
        client.sendfile(i)


def buffer():
    directory = tempfile.mkdtemp(prefix="weir-cost-")
    try:
        source = f"{directory}/in.log"
        write_input(source, 600)
        size = os.path.getsize(source)
        for _ in range(3):
            floor("dd bs=1M into a new file", source, f"{directory}/copy.log", size, "bs=1M")
            floor("dd bs=1M over it", source, f"{directory}/copy.log", size, "bs=1M", "conv=notrunc")
            os.unlink(f"{directory}/copy.log")
        for (begin, sink), _ in itertools.product([("file", "tcp"), ("tcp", "tcp"), ("tcp", "http")], range(3)):
            for name, options in BUFFERS.items():
                subprocess.run(["rm", "-rf", f"{directory}/state"])
                port = free_port()
                start = from_file(source) if begin == "file" else f'type = "tcp"\nlisten = "127.0.0.1:{port}"\n'
                with Receiver(sink) as receiver, Weir(directory, flow(start, sink, receiver.port, options)) as weir:
                    begun = time.time()
                    if begin == "tcp":
                        multiprocessing.Process(target=send, args=(source, port), daemon=True).start()
                    got = until_still(lambda: receiver.taken.value if receiver.taken.value else time.time())
                    spent, peak = cpu(weir.pid), memory(weir.pid, "VmHWM")
                    took = time.time() - begun - 1
                row(f"{begin} -> {sink}, {name}", spent, size, f"{got / 2**20:.0f} MiB arrived, {size / 2**20 / took:.0f} MiB/s, {peak / 1024:.1f} MiB at most")
        recovery(directory, source)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def recovery(directory, source):
    big, port = f"{directory}/big.log", free_port()
    with open(big, "wb") as o:
        while o.tell() < 4 << 30:
            with open(source, "rb") as i:
                shutil.copyfileobj(i, o, 1 << 20)
    size, state = os.path.getsize(big), f"{directory}/state"
    subprocess.run(["rm", "-rf", state])
    waits = lambda: int(subprocess.check_output(["du", "-sb", state]).split()[0]) if os.path.exists(state) else 0
    config = flow(from_file(big), "tcp", port, BUFFERS["disk"])
    with Weir(directory, config):
        begun = time.time()
        until_still(waits, 3.0)
        took = time.time() - begun - 3
    subprocess.run(["sync"])
    print(f"nobody takes them: {waits() / 2**30:.2f} GiB written in {took:.1f} s, {size / 2**20 / took:.0f} MiB/s", flush=True)
    listener = socket.create_server(("127.0.0.1", port))
    begun = time.perf_counter()
    with Weir(directory, config):
        client = listener.accept()[0]
        connected = time.perf_counter() - begun
        client.recv(1 << 16)
        print(f"start with {waits() / 2**30:.2f} GiB: connected after {connected * 1000:.0f} ms, first bytes after {(time.perf_counter() - begun) * 1000:.0f} ms", flush=True)
        client.close()
        listener.close()


def main():
    global ARGS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["files", "sse", "idle", "buffer", []], default=[])
    parser.add_argument("--weir", default="target/release/weir")
    ARGS = parser.parse_args()
    for what in ARGS.what or ["files", "sse", "idle", "buffer"]:
        for measure in {"files": [files], "sse": [sse], "idle": [idle, quiet], "buffer": [buffer]}[what]:
            measure()


main()
