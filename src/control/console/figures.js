// What the figures of the server look like: those that move with every answer.

const STAGES = [
  ["socket", "received by the kernel, the worker was busy or had no CPU"],
  ["queue", "taken up with others that came before it"],
  ["parse", "from bytes to requests"],
  ["hop", "on the way to another core and back"],
  ["execute", "the command"],
  ["output", "its reply was ready, others of the same turn were not"],
  ["send", "taken by the kernel; long when the client does not read"],
];

/** Growth per second of a counter between two statuses; nothing when it was set to zero in between. */
function growth(now, before, seconds) {
  const by = now - before;
  return isNumber(by) && by >= 0 && seconds > 0 ? by / seconds : undefined;
}

/** Sums a counter of the last minute's points. */
function lastMinute(points, index) {
  return points.slice(-30).reduce((sum, point) => sum + point.counters[index], 0);
}

function showIdentity(status) {
  const profile = status.profile ? `profile ${status.profile}` : "no profile";
  const parts = [`version ${status.version}`, status.io_mode.split(" (")[0], profile, `port ${status.tcp_port}`, `pid ${status.pid}`,
    status.kernel, `up ${span(status.uptime_seconds)}`];
  write($("identity"), parts.join(" · "));
}

const tileOf = new Map();

function showTile(name, value, ...notes) {
  if (!tileOf.has(name)) {
    tileOf.set(name, make("div", {}, make("dt", {}, name), make("dd"), ...notes.map(() => make("dd"))));
    $("tiles").append(tileOf.get(name));
  }
  [value, ...notes].forEach((text, index) => write(tileOf.get(name).children[index + 1], text));
  return tileOf.get(name);
}

/** The stage with the highest p99.9 of the last minute; nothing when none was timed. */
function slowestStage(status) {
  const timed = STAGES.map(([name], number) => ({ name, number, times: status.last_minute?.times[1 + number] }));
  return timed.filter(({ times }) => times).sort((one, other) => other.times[4] - one.times[4])[0];
}

/** A stage that takes longer is worth a look, nanoseconds. */
const STAGE_LONG = 1e6;

/** The slowest stage; a command's own time alone would hide what it waited for. */
function showLatency(status) {
  const [slowest, execution] = [slowestStage(status), status.last_minute?.times[0]];
  // A name stays on one line with its value.
  const told = (name, ns) => `${name} ${duration(ns)}`.replaceAll(" ", "\u00a0");
  const isLong = slowest?.times[4] > STAGE_LONG;
  const [shown, notes] = slowest
    ? [slowest.times, [`slowest stage: ${slowest.name}, ${told("p99.9", slowest.times[4])}${isLong ? ", long" : ""}`,
      execution ? told("execution", execution[3]) : ""]]
    : [execution, execution ? ["execution only, without waiting", told("p99.9", execution[4])] : ["nothing was timed", ""]];
  showTile("Latency p99", shown ? duration(shown[3]) : NONE, ...notes).classList.toggle("long", Boolean(isLong));
}

function showOverview(status, points) {
  const { totals, memory } = status;
  const point = points.at(-1);
  const perSecond = (index) => (point ? rate(point.counters[index] / point.seconds) : NONE);
  const lookups = lastMinute(points, 1) + lastMinute(points, 2);
  showTile("Requests/s", perSecond(0), `${count(totals.total_commands_processed)} since the start`);
  showLatency(status);
  showTile("Hit ratio", lookups ? percent(lastMinute(points, 1) / lookups) : NONE,
    `${count(totals.keyspace_hits)} hits, ${count(totals.keyspace_misses)} misses`);
  const limit = memory.maxmemory ? `${percent(memory.used_memory / memory.maxmemory)} of ${bytes(memory.maxmemory)}` : "no limit";
  showTile("Memory used", bytes(memory.used_memory), limit);
  showTile("Keys", count(totals.keys), `${count(totals.expires)} with an expiry`);
  showTile("Clients", count(totals.connected_clients), `of ${count(Number(status.settings.maxclients))} at most`);
  showTile("Evicted/s", perSecond(6), `${count(totals.evicted_keys)} since the start`);
  showTile("Errors/s", perSecond(3), `${count(totals.total_error_replies)} since the start`);
}

const percentilesPlot = timePlot($("percentiles-plot"), $("percentiles-legend"));
const breakdownPlot = timePlot($("breakdown-plot"), $("breakdown-legend"));
const trafficPlot = timePlot($("traffic-plot"), $("traffic-legend"));
const ratioPlot = timePlot($("ratio-plot"), $("ratio-legend"));

/** The latest intervals as rows, newest first, while somebody has opened the table. */
function showAsTable(id, points, cells) {
  if (!$(id).open) return;
  const place = $(id).querySelector(".scroll");
  place.id = `${id}-rows`;
  fill(place.id, points.slice(-15).reverse().map((point) => [clock(point.unix_ms), ...cells(point)]));
}

function showPercentiles(status, points) {
  const [choice, slowest] = [$("percentiles-of"), slowestStage(status)];
  if (slowest && !choice.dataset.chosen) [choice.value, choice.dataset.chosen] = [String(1 + slowest.number), "yes"];
  const chosen = Number($("percentiles-of").value);
  const values = (column) => points.map((point) => point.times[chosen]?.[column]);
  const series = [["p50", 2], ["p99", 3], ["p99.9", 4]].map(([name, column]) => ({ name, values: values(column) }));
  const scale = logScale(series.flatMap((it) => it.values.filter(isNumber)), duration);
  const title = `Percentiles of ${$("percentiles-of").selectedOptions[0].textContent}`;
  percentilesPlot(points, { title, series, scale, show: duration, none: "nothing was timed in this time" });
  showAsTable("percentiles-data", points, ({ times }) => {
    const [timed, ...rest] = times[chosen] || [];
    return [count(timed), ...[0, 1, 2, 3].map((index) => duration(rest[index]))];
  });
}

/** Means of the stages for each batch that was taken up, so that they add up. */
function stageMeans(point, number) {
  const [stage, batches] = [point.times[1 + number], point.times[2]?.[0]];
  if (!stage || !batches) return undefined;
  // Arrivals of some connections only are stamped; those stand for all.
  return STAGES[number][0] === "socket" ? stage[1] : (stage[0] * stage[1]) / batches;
}

function showBreakdown(points) {
  const series = STAGES.map(([name], number) => ({ name, values: points.map((point) => stageMeans(point, number)) }));
  const sums = points.map((_, index) => series.reduce((sum, { values }) => sum + (values[index] || 0), 0));
  const scale = linearScale(Math.max(...sums, 1000), duration);
  const title = "Mean time of a batch of requests by stage";
  breakdownPlot(points, { title, series, scale, show: duration, none: "no request in this time", isStacked: true });
  showAsTable("breakdown-data", points, (point) => STAGES.map((_, number) => duration(stageMeans(point, number))));
}

function showStages(status, points) {
  const minute = status.last_minute;
  const rows = STAGES.map(([name, what], number) => [name, what, minute?.times[1 + number]]);
  const seen = rows.flatMap(([, , times]) => (times ? [times[2], times[4]] : []));
  const isOff = status.settings["stage-sampling"] === "0";
  $("breakdown").hidden = !points.some((point) => point.times.slice(1).some(Boolean));
  $("stages").hidden = seen.length === 0;
  if (isOff) {
    tell("latency-state", "Stages are not timed (stage-sampling is 0), so only the commands' own time is shown. " +
      "`CONFIG SET stage-sampling 64` times one batch of requests in 64, from the socket to the kernel's send, at less " +
      "than 2\u00a0% of the CPU time; set it before clients connect, lower with few of them.");
  } else {
    tell("latency-state", seen.length ? "" : "Stages are timed, and no request has come in the last minute.");
  }
  if ($("stages").hidden) return;
  const axis = $("stages-axis");
  const width = Math.max(120, axis.clientWidth - 4);
  const scale = logScale(seen, duration);
  axis.replaceChildren(make("span", {}, "p50 circle, p99 square, p99.9 bar"), rangeAxis(width, scale));
  fill("stages", rows.map(([name, what, times]) => {
    const [timed, mean, p50, p99, p999] = times || [];
    const mark = times ? { node: rangeMark(width, scale, times) } : NONE;
    return [name, rate(timed / minute?.seconds), duration(mean), duration(p50), duration(p99),
      { text: duration(p999), kind: p999 > STAGE_LONG ? "warn" : "" }, mark, { text: what, kind: "soft" }];
  }));
}

function showTraffic(points) {
  const perSecond = (index) => points.map((point) => point.counters[index] / point.seconds);
  const series = [{ name: "requests", values: perSecond(0) }, { name: "hops", values: perSecond(8) }];
  const scale = linearScale(Math.max(...series.flatMap((it) => it.values), 10), rate);
  trafficPlot(points, { title: "Requests and hops per second", series, scale, show: rate, none: "" });
  showAsTable("traffic-data", points, ({ counters, seconds }) => [
    ...[0, 8, 3].map((index) => rate(counters[index] / seconds)),
    ...[4, 5].map((index) => `${bytes(counters[index] / seconds)}/s`),
  ]);
}

function showCache(status, points) {
  const ratio = ({ counters: [, hits, misses] }) => (hits + misses ? hits / (hits + misses) : undefined);
  const series = [{ name: "hit ratio", values: points.map(ratio) }];
  const scale = linearScale(1, (share) => `${share * 100} %`);
  ratioPlot(points, { title: "Hit ratio", series, scale, show: percent, none: "no look-up in this time" });
  showAsTable("ratio-data", points, (point) => [percent(ratio(point)),
    rate((point.counters[1] + point.counters[2]) / point.seconds),
    ...[6, 7].map((index) => rate(point.counters[index] / point.seconds))]);
  const names = [["½ ×", "half"], ["as it is", "same"], ["2 ×", "double"]];
  const known = names.map(([name, key]) => [name, 1 - status.totals[`miss_ratio_${key}_memory`]]);
  const isTold = known.every(([, value]) => isNumber(value));
  tell("whatif-state", isTold ? "" : "Nothing is told yet: an estimate begins when the cache is full and evicts, and keys are looked up.");
  $("whatif-plot").hidden = !isTold;
  fill("whatif", isTold ? known.map(([name, value]) => [name, percent(value), count((1 - value) * 1000)]) : []);
  const text = known.map(([name, value]) => `${name} ${percent(value)}`).join(", ");
  if (isTold) pointPlot($("whatif-plot"), `Hit ratio with other memory: ${text}`, known, percent);
}

function showWorkers(status, before, seconds) {
  const per = (index, name) => growth(status.workers[index][name], before?.workers[index]?.[name], seconds);
  const load = (index) => {
    const worker = status.workers[index];
    const [busy, waited] = [per(index, "cpu_seconds"), per(index, "cpu_wait_seconds")];
    const [requests, hops] = [per(index, "total_commands_processed"), per(index, "hops_sent")];
    const cpu = isNumber(busy) ? { text: percent(busy), bar: busy } : NONE;
    return [String(index), cpu, { text: percent(waited), kind: waited > 0.05 ? "warn" : "" },
      count(worker.connected_clients), rate(requests), rate(hops), rate(per(index, "hops_served")),
      percent(requests ? hops / requests : undefined), count(worker.keys), bytes(worker.shard_bytes + worker.buffer_bytes)];
  };
  fill("load", status.workers.map((_, index) => load(index)));
  const { settings } = status;
  write($("rings-caption"), `Rings and mailboxes of each worker: ${status.io_mode}; ${settings["ring-submissions"]} ` +
    `submission and ${settings["ring-completions"]} completion entries, ${settings["ring-buffers"]} buffers of ` +
    `${settings["ring-buffer-bytes"]} bytes`);
  fill("rings", status.workers.map((worker, index) => {
    const [turns, messages] = [per(index, "eventloop_cycles"), per(index, "mailbox_messages_sent")];
    const exhausted = worker.receive_buffers_exhausted;
    return [String(index), rate(turns), rate(turns ? per(index, "total_commands_processed") / turns : undefined),
      rate(messages), rate(messages ? per(index, "hops_sent") / messages : undefined), rate(per(index, "wakes")),
      isNumber(turns) ? `${bytes(per(index, "total_net_input_bytes"))}/s` : NONE,
      isNumber(turns) ? `${bytes(per(index, "total_net_output_bytes"))}/s` : NONE,
      { text: count(exhausted), kind: exhausted > 0 ? "warn" : "" }, count(worker.stale_completions)];
  }));
}

function showMemory({ memory }) {
  const kinds = [
    ["keys and values", "what clients store", memory.used_memory_dataset],
    ["tables", "what belongs to items: index, headers, room to grow", memory.items_overhead],
    ["connections", "input and replies of clients", memory.mem_clients_normal],
    ["start-up", "the program and its rings", memory.used_memory_startup],
  ];
  const whole = Math.max(memory.maxmemory, memory.used_memory, 1);
  const text = kinds.map(([name, , size]) => `${name} ${bytes(size)}`).join(", ");
  partsBar($("memory-plot"), `Memory by kind: ${text}, of ${bytes(whole)}`, kinds.map(([name, , size]) => [name, size]), whole);
  const share = (size) => percent(size / whole);
  const soft = (what) => ({ text: what, kind: "soft" });
  fill("kinds", [
    ...kinds.map(([name, what, size], number) => [{ text: name, swatch: `f${number}` }, count(size), share(size), soft(what)]),
    ["used", count(memory.used_memory), share(memory.used_memory), soft("all of these; the most so far was " + bytes(memory.used_memory_peak))],
    ["resident", count(memory.used_memory_rss), share(memory.used_memory_rss), soft("what the kernel gives the process")],
    ["maxmemory", memory.maxmemory ? count(memory.maxmemory) : "none", "", soft(`the limit; policy ${memory.maxmemory_policy}`)],
  ]);
}

function showCommands(status, before, seconds) {
  const all = Object.entries(status.commands).sort(([, one], [, other]) => other.calls - one.calls);
  tell("commands-state", all.length ? "" : "No command has come yet.");
  // Where nothing was timed there is 0.
  const ns = (value) => (value > 0 ? duration(value * 1e9) : NONE);
  fill("calls", all.slice(0, 20).map(([name, row]) => [name, count(row.calls),
    rate(growth(row.calls, before?.commands[name]?.calls ?? (before ? 0 : undefined), seconds)),
    ns(row.seconds / Math.max(row.calls, 1)), ns(row.p50_seconds), ns(row.p99_seconds), ns(row.p99_9_seconds),
    { text: count(row.failed + row.rejected), kind: row.failed + row.rejected > 0 ? "warn" : "" }]));
  fill("errors", Object.entries(status.errors).filter(([, replies]) => replies > 0).map(([code, replies]) => [code, count(replies)]));
}

