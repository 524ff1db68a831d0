// ioredis' cluster client against running nodes: ioredis_cluster.js PORT NODES
//
// With a third argument it goes on through a restart: it says "ready", works until a line comes on its standard input,
// and must then find every key's node again.
const Redis = require("ioredis");
const assert = require("assert");

const [port, nodes] = process.argv.slice(2, 4).map(Number);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function writeAndRead(cluster) {
  for (let n = 0; n < 200; n++) {
    assert.strictEqual(await cluster.set(`key:${n}`, n), "OK");
    assert.strictEqual(await cluster.get(`key:${n}`), String(n));
  }
}

async function goOnThroughARestart(cluster) {
  let isTold = false;
  process.stdin.once("data", () => (isTold = true));
  console.log("ready");
  while (!isTold) await cluster.set("key", 1).catch(() => pause(10));
  const deadline = Date.now() + 20000;
  for (;;) {
    try {
      return await writeAndRead(cluster);
    } catch (error) {
      assert.ok(Date.now() < deadline, String(error));
      await pause(50);
    }
  }
}

async function main() {
  const cluster = new Redis.Cluster([{ host: "127.0.0.1", port }], {
    clusterRetryStrategy: () => 50,
    redisOptions: { maxRetriesPerRequest: 3 },
  });
  cluster.on("error", () => {});
  await new Promise((resolve) => cluster.once("ready", resolve));
  assert.strictEqual(cluster.nodes("master").length, nodes);
  await Promise.all(cluster.nodes("master").map((node) => node.flushall()));
  await writeAndRead(cluster);
  if (process.argv.length > 4) {
    await goOnThroughARestart(cluster);
  } else {
    const values = await Promise.all(Array.from({ length: 200 }, (_, n) => cluster.get(`key:${n}`)));
    assert.deepStrictEqual(values, Array.from({ length: 200 }, (_, n) => String(n)));
    const pipeline = cluster.pipeline();
    for (let n = 0; n < 100; n++) pipeline.set(`{tag}${n}`, n).get(`{tag}${n}`);
    (await pipeline.exec()).forEach(([error, reply], index) => {
      assert.ifError(error);
      assert.strictEqual(reply, index % 2 ? String(index >> 1) : "OK");
    });
    assert.deepStrictEqual(await cluster.mget("{tag}1", "{tag}2"), ["1", "2"]);
    await assert.rejects(cluster.mget("key:1", "key:2"), /CROSSSLOT|same slot/);
    const sizes = await Promise.all(cluster.nodes("master").map((node) => node.dbsize()));
    assert.strictEqual(sizes.reduce((sum, size) => sum + size, 0), 300);
  }
  cluster.disconnect();
  console.log("ok");
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
