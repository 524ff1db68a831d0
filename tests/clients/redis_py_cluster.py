"""redis-py's cluster client against running nodes: redis_py_cluster.py PORT RESP-VERSION NODES

With a fourth argument it goes on through a restart: it says "ready", works until a line comes on its standard input,
and must then find every key's node again.
"""

import sys
import threading
import time

import redis
from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException

port, protocol, nodes = (int(argument) for argument in sys.argv[1:4])
client = RedisCluster(host="127.0.0.1", port=port, protocol=protocol)
assert len(client.get_primaries()) == nodes, client.get_nodes()


def write_and_read():
    for n in range(200):
        assert client.set(f"key:{n}", n)
        assert client.get(f"key:{n}") == str(n).encode()


def go_on_through_a_restart():
    told = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), told.set()), daemon=True).start()
    print("ready", flush=True)
    while not told.is_set():
        try:
            client.set("key", 1)
        except (redis.RedisError, RedisClusterException):
            time.sleep(0.01)
    deadline = time.monotonic() + 20
    while True:
        try:
            return write_and_read()
        except (redis.RedisError, RedisClusterException) as error:
            assert time.monotonic() < deadline, repr(error)
            time.sleep(0.05)


client.flushall()
write_and_read()
if len(sys.argv) > 4:
    go_on_through_a_restart()
    print("ok")
    sys.exit()

pipe = client.pipeline()
for n in range(500):
    pipe.set(f"p:{n}", n)
    pipe.get(f"p:{n}")
assert pipe.execute()[1::2] == [str(n).encode() for n in range(500)]

assert client.mset_nonatomic({f"m:{n}": n for n in range(100)})
assert client.mget_nonatomic([f"m:{n}" for n in range(100)]) == [str(n).encode() for n in range(100)]
assert client.mset({"{tag}1": 1, "{tag}2": 2})
assert client.mget("{tag}1", "{tag}2") == [b"1", b"2"]
assert client.delete(*[f"m:{n}" for n in range(100)]) == 100
assert client.exists(*[f"p:{n}" for n in range(500)]) == 500

assert client.dbsize(target_nodes="primaries") == 200 + 500 + 2
assert len(list(client.scan_iter(count=20))) == 702
assert len(client.keys("key:*", target_nodes="primaries")) == 200
slot = client.cluster_keyslot("key:7")
assert {"key:7", b"key:7"} & set(client.cluster_get_keys_in_slot(slot, 1000))
assert client.cluster_countkeysinslot(slot) >= 1
assert client.cluster_info()["cluster_state"] == "ok"
assert len(client.cluster_nodes()) == nodes
assert len(client.cluster_shards()) == nodes
try:
    client.rename("key:1", "key:2")
    raise SystemExit("keys in two slots should be refused")
except (redis.RedisError, RedisClusterException):
    pass
client.close()
print("ok")
