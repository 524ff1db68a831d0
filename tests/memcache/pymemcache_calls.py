"""The everyday calls of pymemcache against a server on this host; its argument is the port."""

import sys

from pymemcache.client.base import Client, PooledClient
from pymemcache.exceptions import MemcacheClientError

address = ("127.0.0.1", int(sys.argv[1]))

for make in (Client, PooledClient):
    client = make(address, timeout=20)
    assert client.flush_all(noreply=False)
    assert client.get("a") is None
    assert client.set("a", "value", expire=100, noreply=False, flags=3)
    assert client.get("a") == b"value"
    assert not client.add("a", "x", noreply=False)
    assert client.replace("a", "1", noreply=False)
    assert client.incr("a", 9) == 10
    assert client.decr("a", 100) == 0
    assert client.append("a", "z", noreply=False) and client.prepend("a", "y", noreply=False)
    assert client.get("a").startswith(b"y0")
    value, version = client.gets("a")
    assert client.cas("a", "new", version, noreply=False)
    assert client.cas("a", "newer", version, noreply=False) is False
    assert client.cas("missing", "x", version, noreply=False) is None
    assert client.touch("a", 50, noreply=False)
    assert client.get("a") == b"new"
    many = {f"key{number}": f"value{number}".encode() * number for number in range(200)}
    assert client.set_many(many, noreply=False) == []
    assert client.get_many(many) == many
    assert client.delete_many(list(many), noreply=False)
    assert client.get_many(many) == {}
    large = b"x" * (1 << 20)
    assert client.set("large", large, noreply=False)
    assert client.get("large") == large
    assert client.delete("large", noreply=False)
    assert client.version().startswith(b"1.6")
    assert client.stats()[b"threads"] in (1, 2)
    try:
        client.incr("a", 1)
        raise AssertionError("a word is no number")
    except MemcacheClientError:
        pass
    client.close()
