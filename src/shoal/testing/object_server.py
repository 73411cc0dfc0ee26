"""An object store on loopback, for tests and benchmarks: HTTP and the S3 API over one folder, with faults on order.

It speaks what shoal asks of a store: GET and HEAD with ranges, PUT (also create-only), LIST, multipart uploads, DELETE.
"""

import os
import re
import shutil
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR, SO_LINGER, SOL_SOCKET
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

from shoal.base import InputError, new_token

FaultKind = Literal["stall", "reset", "truncate", "status", "wrong_bytes", "changed"]
_COPY_BYTES = 1 << 20
_KEY = re.compile(r"<Key>(.*?)</Key>")


@dataclass(slots=True)
class Fault:
    """What goes wrong with requests: the next `times` ones of this method whose path has `match` in it.

    "stall" sends half of the body and then nothing, "reset" half and then a reset, "truncate" half under the right
    length; "status" answers `status`; "wrong_bytes" flips a bit; "changed" answers as if the object were another now.
    """

    kind: FaultKind
    match: str = ""
    times: int = 1
    status: int = 500
    method: str = "GET"


@dataclass(slots=True)
class Traffic:
    """What a server was asked: `requests` as (method, path, first byte, stop), and the bytes of bodies it sent."""

    requests: list[tuple[str, str, int, int]] = field(default_factory=list)
    sent_bytes: int = 0

    def count(self, method: str, match: str = "") -> int:
        """Return how many requests of a method had `match` in their path."""
        return sum(1 for asked, path, _, _ in self.requests if asked == method and match in path)


class ObjectServer:
    """Serves a folder until it is closed; use it as a context. Any number of clients at once.

    `url(...)` is for plain HTTP. `s3_url(...)` is for the S3 API: the first part of a path is the bucket, and
    signatures are not checked.
    """

    def __init__(self, folder: Path, *, ranges: bool = True, listing: bool = True) -> None:
        self.folder = folder
        self.ranges = ranges
        self.listing = listing
        self.traffic = Traffic()
        self.faults: list[Fault] = []
        self.lock = threading.Lock()
        # Whoever stalls waits on this, so that closing the server frees every thread at once.
        self.closing = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> "ObjectServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint(self) -> str:
        """The server's root, as in "http://127.0.0.1:40123"."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def url(self, path: str = "") -> str:
        """Return the HTTP address of a path below the folder."""
        return f"{self.endpoint}/{path}".rstrip("/")

    def s3_url(self, path: str) -> str:
        """Return the address of "bucket/key" for the S3 API, complete with the options that lead to this server."""
        return f"s3://{path}?endpoint={self.endpoint}&region=us-east-1&skip_signature=true"

    def fail(self, kind: FaultKind, match: str = "", *, times: int = 1, status: int = 500, method: str = "GET") -> None:
        """Order a fault for the next requests that fit."""
        with self.lock:
            self.faults.append(Fault(kind, match, times, status, method))

    def take_fault(self, method: str, path: str) -> Fault | None:
        """Return the fault that this request is to suffer, and count it down."""
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and fault.match in path:
                    fault.times -= 1
                    return fault
        return None

    def note(self, method: str, path: str, start: int, stop: int) -> None:
        """Count a request and, for a GET, the bytes it was answered with."""
        with self.lock:
            self.traffic.requests.append((method, path, start, stop))
            self.traffic.sent_bytes += stop - start if method == "GET" else 0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Closing must not wait for clients that keep their connections open.
    block_on_close = False
    request_queue_size = 128

    def __init__(self, owner: ObjectServer) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that go away in the middle are what the faults are for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    # Headers and body leave together only without Nagle's wait for the client's acknowledgement.
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet on stderr."""

    def do_GET(self) -> None:  # the base class calls it so
        self._read("GET")

    def do_HEAD(self) -> None:
        self._read("HEAD")

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        path, query = self._target()
        owner = self.server.owner
        owner.note("PUT", self.path, 0, len(body))
        if self._suffers(owner.take_fault("PUT", self.path)):
            return
        if "uploadId" in query:
            part = owner.folder / ".uploads" / query["uploadId"][0] / f"{int(query['partNumber'][0]):06d}"
            part.write_bytes(body)
            self._answer(200, headers={"ETag": f'"{part.name}"'})
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{new_token(8)}.put")
        fresh.write_bytes(body)
        try:
            if self.headers.get("If-None-Match") == "*":
                path.hardlink_to(fresh)
            else:
                shutil.copyfile(fresh, path)
        except FileExistsError:
            self._answer(412, _error("PreconditionFailed"))
            return
        finally:
            fresh.unlink()
        self._answer(200, headers={"ETag": _etag(path)})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        path, query = self._target()
        owner = self.server.owner
        owner.note("POST", self.path, 0, 0)
        if self._suffers(owner.take_fault("POST", self.path)):
            return
        if "delete" in query:
            keys = _KEY.findall(body.decode())
            for key in keys:
                (path / unescape(key)).unlink(missing_ok=True)
            deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>")
            return
        uploads = owner.folder / ".uploads"
        if "uploads" in query:
            upload = new_token(8)
            (uploads / upload).mkdir(parents=True)
            self._answer(
                200,
                "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key>"
                f"<UploadId>{upload}</UploadId></InitiateMultipartUploadResult>",
            )
            return
        parts = uploads / query["uploadId"][0]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as sink:
            for part in sorted(parts.iterdir()):
                with part.open("rb") as source:
                    shutil.copyfileobj(source, sink)
        shutil.rmtree(parts)
        self._answer(
            200,
            "<CompleteMultipartUploadResult><Location>l</Location><Bucket>b</Bucket><Key>k</Key>"
            f"<ETag>{escape(_etag(path))}</ETag></CompleteMultipartUploadResult>",
        )

    def do_DELETE(self) -> None:
        path, query = self._target()
        self.server.owner.note("DELETE", self.path, 0, 0)
        if "uploadId" in query:
            shutil.rmtree(self.server.owner.folder / ".uploads" / query["uploadId"][0], ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        self._answer(204)

    def _read(self, method: str) -> None:
        path, query = self._target()
        owner = self.server.owner
        fault = owner.take_fault(method, self.path)
        if fault is not None and fault.kind == "status":
            owner.note(method, self.path, 0, 0)
            self._suffers(fault)
        elif "list-type" in query:
            owner.note("LIST", self.path, 0, 0)
            self._answer(200, _listing(path, query.get("prefix", [""])[0]))
        elif path.is_dir() and owner.listing:
            owner.note("LIST", self.path, 0, 0)
            links = "".join(f'<a href="{child.name}">{child.name}</a>' for child in sorted(path.iterdir()))
            self._answer(200, f"<html>{links}</html>")
        elif not path.is_file():
            owner.note(method, self.path, 0, 0)
            self._answer(404, _error("NoSuchKey"))
        else:
            self._send_file(method, path, fault)

    def _send_file(self, method: str, path: Path, fault: Fault | None) -> None:
        with path.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            span = _span(self.headers.get("Range"), size) if self.server.owner.ranges else None
            start, stop = span or (0, size)
            headers = {"ETag": _etag(path), "Last-Modified": formatdate(path.stat().st_mtime, usegmt=True)}
            if fault is not None and fault.kind == "changed":
                headers["ETag"] = f'"{new_token(8)}"'
            if span is not None:
                headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
            if self.server.owner.ranges:
                headers["Accept-Ranges"] = "bytes"
            self.server.owner.note(method, self.path, start, stop)
            self.send_response(206 if span else 200)
            for name, value in {**headers, "Content-Length": str(stop - start)}.items():
                self.send_header(name, value)
            self.end_headers()
            if method == "HEAD":
                return
            self.wfile.flush()
            self._send_body(source.fileno(), start, stop, fault)

    def _send_body(self, descriptor: int, start: int, stop: int, fault: Fault | None) -> None:
        kind = fault.kind if fault else None
        if kind in ("stall", "reset", "truncate"):
            stop = start + (stop - start) // 2
        if kind == "wrong_bytes":
            data = bytearray(os.pread(descriptor, stop - start, start))
            data[len(data) // 2] ^= 1
            self.wfile.write(data)
            return
        while start < stop:
            start += os.sendfile(self.connection.fileno(), descriptor, start, min(stop - start, _COPY_BYTES))
        if kind == "stall":
            self.server.owner.closing.wait(60)
        if kind in ("stall", "reset", "truncate"):
            self.close_connection = True
            if kind == "reset":
                # Lingering for zero seconds turns the close into a reset; detached, so that nobody says goodbye first.
                self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
                os.close(self.connection.detach())
            else:
                self.connection.shutdown(SHUT_RDWR)

    def _suffers(self, fault: Fault | None) -> bool:
        if fault is None:
            return False
        if fault.kind == "status":
            self._answer(fault.status, _error("InternalError"))
        else:
            self.close_connection = True
            self.connection.shutdown(SHUT_RDWR)
        return True

    def _target(self) -> tuple[Path, dict[str, list[str]]]:
        url = urlsplit(self.path)
        path = unquote(url.path).strip("/")
        if ".." in path.split("/"):
            raise InputError(f"{path} leaves the folder", next_step="ask for what is inside")
        return self.server.owner.folder / path, parse_qs(url.query, keep_blank_values=True)

    def _answer(self, status: int, body: str = "", headers: dict[str, str] | None = None) -> None:
        data = body.encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def serve_folder(folder: Path, *, ranges: bool = True, listing: bool = True) -> Iterator[ObjectServer]:
    """Give a server over a folder for the length of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    with ObjectServer(folder, ranges=ranges, listing=listing) as server:
        yield server


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    if header is None or not header.startswith("bytes="):
        return None
    first, _, last = header.removeprefix("bytes=").partition("-")
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def _etag(path: Path) -> str:
    found = path.stat()
    return f'"{found.st_mtime_ns:x}-{found.st_size:x}"'


def _changed(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="milliseconds")


def _listing(bucket: Path, prefix: str) -> str:
    files = sorted(
        path for path in bucket.rglob("*") if path.is_file() and not any(part.startswith(".") for part in path.parts)
    )
    items = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>{_changed(path)}</LastModified>"
        f"<ETag>{escape(_etag(path))}</ETag><Size>{path.stat().st_size}</Size></Contents>"
        for path in files
        if (key := path.relative_to(bucket).as_posix()).startswith(prefix)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><IsTruncated>false</IsTruncated>'
        f"<KeyCount>{len(files)}</KeyCount>{items}</ListBucketResult>"
    )


def _error(code: str) -> str:
    return f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
