#!/usr/bin/env python3
"""Requests per second of the http source beside a bare hyper handler that answers 200. Needs python3 and wrk.

usage: cargo build --release --bin weir --example bare_http && python3 benches/ingest.py [options]
Single small JSON events over keep-alive; weir answers each once its null sink has it. The servers take turns, a few
seconds each, for several rounds; the last line compares the medians. CPU is user + system time of the server alone.
"""
import argparse, json, os, re, signal, socket, statistics, subprocess, sys, tempfile, time

EVENT = json.dumps(
    {"timestamp": "2026-11-21T06:00:00.123Z", "level": "info", "service": "checkout", "msg": "payment authorised", "ms": 12},
    separators=(",", ":"),
)
LUA = f"""wrk.method = "POST"
wrk.body = {json.dumps(EVENT)}
wrk.headers["content-type"] = "application/json"
"""


def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait(port):
    for _ in range(500):
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
    sys.exit(f"nothing listens on {port}")


def measure(args, script, pid, port):
    before = cpu(pid)
    command = ["wrk", f"-t{args.threads}", f"-c{args.connections}", f"-d{args.seconds}s", "-s", script]
    report = subprocess.run([*command, f"http://127.0.0.1:{port}/app/ingest"], capture_output=True, text=True).stdout
    used = cpu(pid) - before
    if "Non-2xx" in report or "Socket errors" in report:
        sys.exit(report)
    requests = int(re.search(r"(\d+) requests in", report)[1])
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", report)[1])
    return rate, used, used / requests * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weir", default="target/release/weir")
    parser.add_argument("--bare", default="target/release/examples/bare_http")
    parser.add_argument("--unread", action="store_true", help="the bare handler does not read bodies")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        script, config = os.path.join(directory, "post.lua"), os.path.join(directory, "weir.toml")
        ports = {"bare": free_port(), "weir": free_port()}
        open(script, "w").write(LUA)
        open(config, "w").write(
            f'state_dir = "{directory}/state"\nlogging.level = "error"\nserver.listen = "127.0.0.1:{ports["weir"]}"\n'
            '[[pipelines]]\nname = "app"\nsources = [{ type = "http" }]\nsinks = [{ type = "null" }]\n'
        )
        bare = [args.bare, f"127.0.0.1:{ports['bare']}"] + (["--unread"] if args.unread else [])
        servers = {
            "bare": subprocess.Popen(bare),
            "weir": subprocess.Popen([args.weir, "run", "-c", config], stdin=subprocess.DEVNULL),
        }
        try:
            figures = {name: [] for name in servers}
            for name in servers:
                wait(ports[name])
                measure(args, script, servers[name].pid, ports[name])  # warm-up
            for turn in range(args.rounds):
                for name in servers if turn % 2 == 0 else reversed(servers):
                    figure = measure(args, script, servers[name].pid, ports[name])
                    figures[name].append(figure)
                    print("%s: %8.0f requests/s, %5.2f CPU s, %5.2f CPU µs a request" % (name, *figure), flush=True)
        finally:
            for server in servers.values():
                server.send_signal(signal.SIGTERM)
                server.wait(20)
    middle = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in figures.items()}
    print(
        "median: bare %.0f, weir %.0f requests/s: %.0f %%; %.2f and %.2f CPU µs a request"
        % (middle["bare"][0], middle["weir"][0], 100 * middle["weir"][0] / middle["bare"][0], middle["bare"][2], middle["weir"][2])
    )


main()
