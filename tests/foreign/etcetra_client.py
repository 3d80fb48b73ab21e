"""The gRPC client `etcetra` from PyPI, unchanged. Called with a member's host and port."""

import asyncio
import sys

from etcetra import EtcdClient, HostPortPair
from etcetra.errors import EtcetraError
from etcetra.grpc_api import rpc_pb2, rpc_pb2_grpc
from etcetra.types import CompareKey, EtcdCredential, WatchEventType


def expect(found, wanted):
    assert found == wanted, f"{found} is not {wanted}"


def client(credentials=None):
    return EtcdClient(HostPortPair(sys.argv[1], int(sys.argv[2])), credentials=credentials)


async def keys(etcd):
    await etcd.put("etcetra/a", "1")
    await etcd.put("etcetra/b", "2")
    expect(await etcd.get("etcetra/a"), "1")
    expect(await etcd.get("etcetra/none"), None)
    expect(dict(await etcd.get_prefix("etcetra/")), {"etcetra/a": "1", "etcetra/b": "2"})
    expect(sorted(await etcd.keys_prefix("etcetra/")), ["etcetra/a", "etcetra/b"])
    await etcd.delete("etcetra/b")
    expect(await etcd.get("etcetra/b"), None)


async def transactions(etcd):
    def build(success, failure):
        success.put("etcetra/c", "3")
        success.get("etcetra/c")
        failure.get("etcetra/none")

    compare = [CompareKey("etcetra/a").value == "1"]
    values, succeeded = await etcd.txn_compare(compare, build)
    expect((values[-1], succeeded), ({"etcetra/c": "3"}, True))
    compare = [CompareKey("etcetra/a").value == "2"]
    _, succeeded = await etcd.txn_compare(compare, build)
    expect(succeeded, False)


async def watches(etcd):
    heard = asyncio.Queue()

    async def listen():
        async for event in etcd.watch_prefix("etcetra/watched/"):
            heard.put_nowait((event.event, event.key, event.value))

    listening = asyncio.create_task(listen())
    # The client does not tell when its watcher is there.
    while heard.empty():
        await etcd.put("etcetra/watched/a", "1")
        await asyncio.sleep(0.01)
    await etcd.delete("etcetra/watched/a")
    event = put = (WatchEventType.PUT, "etcetra/watched/a", "1")
    while event == put:
        event = await heard.get()
    expect(event[:2], (WatchEventType.DELETE, "etcetra/watched/a"))
    listening.cancel()


async def leases(etcd):
    lease = await etcd.grant_lease(100)
    await etcd.put("etcetra/leased", "1", lease=lease)
    expect(await etcd.get("etcetra/leased"), "1")
    keeping = etcd.create_lease_keepalive_task(lease, 0.05)
    await etcd.revoke_lease(lease)
    keeping.cancel()
    expect(await etcd.get("etcetra/leased"), None)


async def locks():
    held = []

    async def hold(name):
        async with client().with_lock("locks-of-etcetra", ttl=100):
            held.append(name)
            await asyncio.sleep(0)
            held.append(name)

    await asyncio.gather(hold("a"), hold("b"), hold("c"))
    expect(held[::2], held[1::2])
    expect(sorted(held[::2]), ["a", "b", "c"])


async def users(etcd):
    auth = rpc_pb2_grpc.AuthStub(etcd.channel)
    await auth.UserAdd(rpc_pb2.AuthUserAddRequest(name="root", password="r"))
    await auth.RoleAdd(rpc_pb2.AuthRoleAddRequest(name="root"))
    await auth.UserGrantRole(rpc_pb2.AuthUserGrantRoleRequest(user="root", role="root"))
    await auth.AuthEnable(rpc_pb2.AuthEnableRequest())
    try:
        await etcd.get("etcetra/a")
        raise AssertionError("nobody may read")
    except EtcetraError as error:
        expect("user name is empty" in str(error), True)
    async with client(EtcdCredential("root", "r")).connect() as known:
        expect(await known.get("etcetra/a"), "1")
        await rpc_pb2_grpc.AuthStub(known.channel).AuthDisable(rpc_pb2.AuthDisableRequest())


async def main():
    async with client().connect() as etcd:
        await keys(etcd)
        await transactions(etcd)
        await watches(etcd)
        await leases(etcd)
        await locks()
        await users(etcd)
        await etcd.delete_prefix("etcetra/")
        expect(dict(await etcd.get_prefix("etcetra/")), {})
    print("passed")


# A hang guard, far above what anything here takes.
asyncio.run(asyncio.wait_for(main(), 60))
