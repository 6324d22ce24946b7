"""The kernel's own classic filter, on a pair of Unix datagram sockets.

Standard input: records of a 4-byte length and that many bytes. A first byte 0 begins a filter (struct sock_filter each), 1 a
frame. For each frame 4 bytes on standard output: bytes that came through the filter, or 0xffffffff when none did.
"""
import ctypes
import socket
import struct
import sys

SO_ATTACH_FILTER = 26


def main() -> None:
    source, sink = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in (source, sink):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    data = sys.stdin.buffer.read()
    out = bytearray()
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        kind = data[at + 4]
        body = data[at + 5 : at + 4 + size]
        at += 4 + size
        if kind == 0:
            code = ctypes.create_string_buffer(body, len(body))
            program = struct.pack("HL", len(body) // 8, ctypes.addressof(code))
            sink.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
            continue
        source.send(body)
        try:
            out += struct.pack("<I", len(sink.recv(1 << 17, socket.MSG_DONTWAIT)))
        except BlockingIOError:
            out += struct.pack("<I", 0xFFFFFFFF)
    sys.stdout.buffer.write(out)


main()
