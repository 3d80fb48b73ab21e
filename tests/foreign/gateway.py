"""A client of the JSON gateway with nothing but Python's standard library.

Called with the host and the port of a member. Prints `passed` at the end, or fails with what was wrong.
"""

import base64
import json
import sys
import urllib.error
import urllib.request

# A hang guard, far above what anything here takes.
LIMIT_SECONDS = 60

URL = f"http://{sys.argv[1]}:{sys.argv[2]}"


def text(value):
    return base64.b64encode(value.encode()).decode()


def open_stream(path, body, headers=None):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data=data, headers=headers or {}, method="POST")
    return urllib.request.urlopen(request, timeout=LIMIT_SECONDS)


def post(path, body, headers=None):
    with open_stream(path, body, headers) as answer:
        return json.load(answer)


def refused(path, body, status, method="POST"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data=data, method=method)
    try:
        urllib.request.urlopen(request, timeout=LIMIT_SECONDS)
    except urllib.error.HTTPError as error:
        text = error.read()
        assert error.code == status, (path, error.code, text)
        if error.headers.get_content_type() != "application/json":
            return text.decode()
        answer = json.loads(text)
        assert answer["error"] == answer["message"], answer
        return answer
    raise AssertionError(f"{path} {body} was not refused")


def expect(found, wanted):
    assert found == wanted, f"{found} is not {wanted}"


def main():
    put = post("/v3/kv/put", {"key": text("gateway/a"), "value": text("1")})
    first = int(put["header"]["revision"])
    assert isinstance(put["header"]["revision"], str), put
    expect(set(put), {"header"})
    got = post("/v3/kv/range", {"key": text("gateway/"), "rangeEnd": text("gateway0"), "limit": 5})
    expect(got["count"], "1")
    expect(got["kvs"][0]["key"], text("gateway/a"))
    expect(got["kvs"][0]["mod_revision"], str(first))
    expect("lease" in got["kvs"][0], False)

    # Names of fields in either form, numbers as texts, enumerations by name or number, and what is
    # not known is ignored.
    txn = {
        "compare": [
            {"key": text("gateway/a"), "target": "VALUE", "result": 0, "value": text("1")},
            {"key": text("gateway/a"), "target": 2, "mod_revision": str(first)},
        ],
        "success": [
            {"requestPut": {"key": text("gateway/b"), "value": text("2")}},
            {"request_range": {"key": text("gateway/b"), "nobody_knows": 1}},
        ],
    }
    answer = post("/v3beta/kv/txn", txn)
    expect(answer["succeeded"], True)
    expect(answer["responses"][1]["response_range"]["kvs"][0]["value"], text("2"))
    deleted = post("/v3/kv/deleterange", {"key": text("gateway/b"), "prev_kv": True})
    expect((deleted["deleted"], deleted["prev_kvs"][0]["value"]), ("1", text("2")))

    status = post("/v3/maintenance/status", b"")
    expect(status["leader"].isdigit(), True)
    members = post("/v3/cluster/member/list", {"linearizable": True})["members"]
    expect(len(members), 3)
    expect(members[0]["peerURLs"][0][:4], "http")

    expect(refused("/v3/kv/put", {"value": text("1")}, 400)["code"], 3)
    answer = refused("/v3/kv/range", {"key": text("a"), "revision": "999999999"}, 400)
    expect(answer["code"], 11)
    expect(answer["message"], "etcdserver: mvcc: required revision is a future revision")
    expect(refused("/v3/kv/range", b"{", 400)["code"], 3)
    expect(refused("/v3/kv/range", {"key": "*"}, 400)["code"], 3)
    expect(refused("/v3/kv/fly", {}, 404), "Not Found\n")
    expect(refused("/v3/kv/range", b"", 405, "GET"), "Method Not Allowed\n")
    print("passed")


if __name__ == "__main__":
    main()
