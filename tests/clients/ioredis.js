// ioredis against a running server: ioredis.js PORT
const Redis = require("ioredis");
const assert = require("assert");

async function main() {
  const client = new Redis({ port: Number(process.argv[2]), maxRetriesPerRequest: 1 });
  await client.flushall();
  assert.strictEqual(await client.set("a", "1", "PX", 100000), "OK");
  assert.strictEqual(await client.get("a"), "1");
  assert.strictEqual(await client.incr("a"), 2);

  const pipeline = client.pipeline();
  for (let n = 0; n < 1000; n++) pipeline.set(`key:${n}`, n).get(`key:${n}`);
  const replies = await pipeline.exec();
  replies.forEach(([error, reply], index) => {
    assert.ifError(error);
    assert.strictEqual(reply, index % 2 ? String(index >> 1) : "OK");
  });

  // Many requests at once, without an explicit pipeline.
  const values = await Promise.all(Array.from({ length: 500 }, (_, n) => client.get(`key:${n}`)));
  assert.deepStrictEqual(values, Array.from({ length: 500 }, (_, n) => String(n)));
  const keys = Array.from({ length: 100 }, (_, n) => `key:${n}`);
  assert.deepStrictEqual(await client.mget(keys), keys.map((_, n) => String(n)));
  assert.strictEqual(await client.del(...keys), 100);

  const big = Buffer.alloc(10 * 1024 * 1024, "b");
  await client.set("big", big);
  assert.ok((await client.getBuffer("big")).equals(big));

  await assert.rejects(client.call("NOSUCH"), /unknown command/);

  // A killed connection comes back by itself.
  const id = await client.client("ID");
  const other = new Redis({ port: Number(process.argv[2]) });
  assert.strictEqual(Number(await other.client("KILL", "ID", id)), 1);
  await new Promise((resolve) => client.once("ready", resolve));
  assert.strictEqual(await client.get("key:500"), "500");

  const stream = other.scanStream({ match: "key:*", count: 50 });
  const seen = new Set();
  for await (const batch of stream) batch.forEach((key) => seen.add(key));
  assert.strictEqual(seen.size, 900);
  client.disconnect();
  await other.quit();
  console.log("ok");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
