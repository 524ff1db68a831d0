"""redis-py against a running server: redis_py.py PORT RESP-VERSION"""

import sys
import time

import redis

client = redis.Redis(port=int(sys.argv[1]), protocol=int(sys.argv[2]), decode_responses=False)
assert client.ping()
client.flushall()

# Strings, expiry, conditions.
assert client.set("a", "1", ex=100)
assert client.set("a", "2", nx=True) is None
assert client.get("a") == b"1"
assert 95 <= client.ttl("a") <= 100
assert client.incrby("a", 41) == 42
assert client.getex("a", persist=True) == b"42"
assert client.ttl("a") == -1
assert client.psetex("soon", 30, "x")
time.sleep(0.05)
assert client.get("soon") is None

# Several keys, which lie on several cores.
assert client.mset({f"key:{n}": n for n in range(200)})
assert client.mget([f"key:{n}" for n in range(200)]) == [str(n).encode() for n in range(200)]
assert client.delete(*[f"key:{n}" for n in range(100)]) == 100
assert client.exists(*[f"key:{n}" for n in range(200)]) == 100
assert client.dbsize() == 101
assert len(set(client.scan_iter(match="key:*", count=7))) == 100
assert len(client.keys("key:1*")) == 100
assert client.rename("key:150", "renamed")
assert client.copy("renamed", "copied")
assert client.get("copied") == b"150"
assert client.msetnx({"n1": 1, "n2": 2, "n3": 3})
assert not client.msetnx({"n3": 1, "n4": 2, "n5": 3})
assert client.exists("n4", "n5") == 0

# A pipeline that mixes cores answers in order.
pipe = client.pipeline(transaction=False)
for n in range(1000):
    pipe.set(f"p:{n}", n)
    pipe.get(f"p:{n}")
    pipe.incr("counter")
replies = pipe.execute()
assert replies[1::3] == [str(n).encode() for n in range(1000)]
assert replies[2::3] == list(range(1, 1001))

# Large values.
big = bytes(range(256)) * (10 * 1024 * 1024 // 256)
assert client.set("big", big)
assert client.get("big") == big
pipe = client.pipeline(transaction=False)
for _ in range(4):
    pipe.get("big")
    pipe.ping()
assert pipe.execute() == [big, True] * 4
assert client.strlen("big") == len(big)
assert client.getrange("big", 256, 258) == b"\x00\x01\x02"

# Errors arrive as errors, and the connection goes on.
for args in (["NOSUCH", "x"], ["GET"], ["INCR", "big"], ["SET", "a", "b", "EX", "0"]):
    try:
        client.execute_command(*args)
        raise SystemExit(f"{args} should fail")
    except redis.ResponseError:
        pass
assert client.ping()

# What the client asks about.
assert client.info()["redis_version"].startswith("7.2")
assert client.info("memory")["used_memory"] > 0
client.client_setname("tester")
assert client.client_getname() in ("tester", b"tester")
assert any(entry["name"] == "tester" for entry in client.client_list())
assert client.client_info()["name"] == "tester"
assert client.config_get("maxclients")
assert client.command_count() > 60
assert client.object("encoding", "a") in (b"int", "int")
assert client.memory_usage("a") > 0
print("ok")
