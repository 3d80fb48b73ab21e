"""The gateway's client `etcd3gw` from PyPI, which OpenStack uses, unchanged.

Called with a member's host and port.
"""

import queue
import sys

import etcd3gw
import requests
from etcd3gw import exceptions

# A hang guard, far above what anything here takes.
LIMIT_SECONDS = 60


def expect(found, wanted):
    assert found == wanted, f"{found} is not {wanted}"


def refused(kind, ask):
    try:
        answer = ask()
    except kind as error:
        return str(error)
    raise AssertionError(f"it was not refused but answered {answer}")


def connect(token=None):
    session = requests.Session()
    if token is not None:
        session.headers["Authorization"] = token
    host, port = sys.argv[1], int(sys.argv[2])
    return etcd3gw.client(host=host, port=port, timeout=LIMIT_SECONDS, session=session)


def keys(client):
    expect(client.put("gw/a", "1"), True)
    expect(client.create("gw/b", "2"), True)
    expect(client.create("gw/b", "3"), False)
    expect(client.get("gw/a"), [b"1"])
    expect(client.get("gw/none"), [])
    values = client.get_prefix("gw/", sort_order="descend", sort_target="key")
    expect([(value, meta["key"]) for value, meta in values], [(b"2", b"gw/b"), (b"1", b"gw/a")])
    expect(client.replace("gw/a", "1", "4"), True)
    expect(client.replace("gw/a", "1", "5"), False)
    expect(client.get("gw/a"), [b"4"])
    expect(client.delete("gw/b"), True)
    expect(client.delete("gw/b"), False)
    expect([member["ID"].isdigit() for member in client.members()][:1], [True])
    assert client.status()["leader"].isdigit()


def watches(client):
    heard = queue.Queue()
    watcher = client.watch_prefix("gw/watched/", start_revision=1)
    events, cancel = watcher
    client.put("gw/watched/a", "1")
    client.delete("gw/watched/a")
    event = next(events)
    expect((event["kv"]["key"], event["kv"]["value"]), (b"gw/watched/a", b"1"))
    event = next(events)
    expect((event["kv"]["key"], event["type"]), (b"gw/watched/a", "DELETE"))
    cancel()
    expect(heard.empty(), True)
    refused(exceptions.WatchTimedOut, lambda: client.watch_once("gw/quiet", timeout=0.1))


def leases(client):
    lease = client.lease(ttl=100)
    client.put("gw/leased", "1", lease=lease)
    assert 0 < lease.ttl() <= 100
    expect(lease.refresh(), 100)
    expect(lease.keys(), [b"gw/leased"])
    lease.revoke()
    expect(client.get("gw/leased"), [])
    expect(lease.refresh(), -1)


def locks(client):
    with client.lock("gw", ttl=100) as first:
        expect(first.is_acquired(), True)
        second = client.lock("gw", ttl=100)
        expect(second.acquire(), False)
        expect(first.refresh(), 100)
    expect(first.is_acquired(), False)
    expect(second.acquire(), True)
    expect(second.release(), True)


def users(client):
    def post(path, body, client=client):
        return client.post(client.get_url(path), json=body)

    post("/auth/user/add", {"name": "root", "password": "r"})
    post("/auth/role/add", {"name": "root"})
    post("/auth/user/grant", {"user": "root", "role": "root"})
    post("/auth/enable", {})
    refused(exceptions.Etcd3Exception, lambda: client.get("gw/a"))
    refused(exceptions.Etcd3Exception, lambda: connect("none.1").get("gw/a"))
    token = post("/auth/authenticate", {"name": "root", "password": "r"})["token"]
    known = connect(token)
    expect(known.get("gw/a"), [b"4"])
    post("/auth/disable", {}, known)
    expect(client.delete_prefix("gw/"), True)


client = connect()
keys(client)
watches(client)
leases(client)
locks(client)
users(client)
print("passed")
