"""One exchange for each way to read and write a socket. Prints its port, waits for a line, then says what it did."""
import ctypes
import os
import socket
import sys
import threading

libc = ctypes.CDLL(None, use_errno=True)


class IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


class MsgHdr(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint32), ("iov", ctypes.POINTER(IoVec)),
                ("iovlen", ctypes.c_size_t), ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t),
                ("flags", ctypes.c_int)]


class MMsgHdr(ctypes.Structure):
    _fields_ = [("header", MsgHdr), ("len", ctypes.c_uint)]


def halves(data):
    return [data[:7], data[7:]]


def sendmmsg(s, data):
    """Two messages, of which the second holds the end of the head: only both together make sense."""
    parts = [ctypes.create_string_buffer(part, len(part)) for part in halves(data)]
    vectors = [IoVec(ctypes.cast(part, ctypes.c_void_p), len(part)) for part in parts]
    messages = (MMsgHdr * 2)()
    for message, vector in zip(messages, vectors):
        message.header.iov = ctypes.pointer(vector)
        message.header.iovlen = 1
    sent = libc.sendmmsg(s.fileno(), messages, 2, 0)
    assert sent == 2, ctypes.get_errno()


def peeked(s):
    s.recv(20, socket.MSG_PEEK)
    s.recv(4096, socket.MSG_PEEK)
    return s.recv(4096)


def readv(s):
    first, second = bytearray(10), bytearray(4096)
    n = os.readv(s.fileno(), [first, second])
    return (bytes(first) + bytes(second))[:n]


def recv_into(s):
    buffer = bytearray(4096)
    return bytes(buffer[:s.recv_into(buffer)])


def byte_by_byte(s):
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += s.recv(1)
    return data


def recvmsg_two(s):
    first, second = bytearray(5), bytearray(4096)
    n, _, _, _ = s.recvmsg_into([first, second])
    return (bytes(first) + bytes(second))[:n]


SEND = {
    "write": lambda s, d: os.write(s.fileno(), d),
    "writev": lambda s, d: os.writev(s.fileno(), halves(d)),
    "send": lambda s, d: s.sendall(d),
    "sendmsg": lambda s, d: s.sendmsg(halves(d)),
    "sendmmsg": sendmmsg,
    "pieces": lambda s, d: [s.send(d[i:i + 3]) for i in range(0, len(d), 3)],
}
RECEIVE = {
    "read": lambda s: os.read(s.fileno(), 4096),
    "readv": readv,
    "recv": lambda s: s.recv(4096),
    "recv_into": recv_into,
    "recvmsg": lambda s: s.recvmsg(4096)[0],
    "recvmsg_two": recvmsg_two,
    "peeked": peeked,
    "byte_by_byte": byte_by_byte,
}


def until(s, how, end):
    data = b""
    while not data.endswith(end):
        part = how(s)
        if not part:
            return data
        data += part
    return data


def serve(listener):
    while True:
        s, _ = listener.accept()
        # Which way is asked for is known to both sides by turns.
        send, receive = ways.pop(0)
        with s:
            until(s, receive, b"\r\n\r\n")
            send(s, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            s.recv(1)


ways = []
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
sys.stdin.readline()
threading.Thread(target=serve, args=(listener,), daemon=True).start()
for send_name, send in SEND.items():
    for receive_name, receive in RECEIVE.items():
        ways.append((send, receive))
        with socket.create_connection(listener.getsockname()) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            send(client, b"GET /%s/%s HTTP/1.1\r\nHost: calls\r\n\r\n" % (send_name.encode(), receive_name.encode()))
            until(client, RECEIVE["recv"] if receive_name == "byte_by_byte" else receive, b"\r\n\r\n")
print("done", flush=True)
sys.stdin.readline()
