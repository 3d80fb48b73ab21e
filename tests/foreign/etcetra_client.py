"""The gRPC client `etcetra` from PyPI, unchanged. Called with a member's host and port."""

import asyncio
import sys

from etcetra import EtcdClient, HostPortPair
from etcetra.types import CompareKey


def expect(found, wanted):
    assert found == wanted, f"{found} is not {wanted}"


async def main():
    client = EtcdClient(HostPortPair(sys.argv[1], int(sys.argv[2])))
    async with client.connect() as etcd:
        await etcd.put("etcetra/a", "1")
        await etcd.put("etcetra/b", "2")
        expect(await etcd.get("etcetra/a"), "1")
        expect(await etcd.get("etcetra/none"), None)
        expect(dict(await etcd.get_prefix("etcetra/")), {"etcetra/a": "1", "etcetra/b": "2"})
        expect(sorted(await etcd.keys_prefix("etcetra/")), ["etcetra/a", "etcetra/b"])
        await etcd.delete("etcetra/b")
        expect(await etcd.get("etcetra/b"), None)

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
        await etcd.delete_prefix("etcetra/")
        expect(dict(await etcd.get_prefix("etcetra/")), {})
    print("passed")


asyncio.run(asyncio.wait_for(main(), 60))
