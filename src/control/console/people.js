// What clients do, what of the host costs latency, and the settings: asked for now and then.

function showHotKeys(answer) {
  const isOff = answer.hotkeys_sampling === 0;
  const off = "Requests are not sampled for this (hotkeys-sampling is 0). `CONFIG SET hotkeys-sampling 64` looks at one " +
    "request in about 64, which costs little.";
  // A part of a key's count may be other keys' requests; what remains is certain.
  const certain = (known) => 1 - known.too_high_by / known.requests;
  const none = answer.keys.length ? "No key stands out: half of each count and more may be other keys' requests."
    : "No key has been asked for in the last minutes.";
  tell("hotkeys-state", isOff ? off : answer.keys.some((known) => certain(known) > 0.5) ? "" : none);
  const least = (known) => (known.too_high_by ? `${(known.share * certain(known) * 100).toFixed(2)} – ` : "");
  fill("keys", isOff ? [] : answer.keys.map((known) => [{ text: known.key, kind: "k" },
    least(known) + percent(known.share), count(known.requests), count(known.too_high_by)]));
}

function showSlowLog(answer) {
  const isOff = answer.slower_than_us < 0;
  const threshold = duration(answer.slower_than_us * 1000);
  const none = `No request has taken longer than ${threshold} (slowlog-log-slower-than).`;
  const off = "Slow requests are not kept (slowlog-log-slower-than is -1). `CONFIG SET slowlog-log-slower-than 10000` " +
    "keeps those that take longer than 10 ms, at no cost.";
  tell("slowlog-state", answer.entries.length ? "" : isOff ? off : none);
  const bound = answer.slower_than_us > 0 ? `; slower than ${threshold}` : "";
  write($("slow-caption"), `Newest slow requests, ${answer.entries.length} of ${count(answer.kept)} kept${bound}`);
  fill("slow", answer.entries.map((entry) => [moment(entry.unix_seconds * 1000), duration(entry.us * 1000), entry.stage,
    { text: entry.arguments.join(" "), kind: "k" }, entry.name ? `${entry.name} ${entry.address}` : entry.address]));
}

function showClients({ connected, clients, silent_workers: silent }) {
  const rest = connected - clients.length;
  const missing = silent.length ? `Worker ${silent.join(", ")} did not answer within a second.` : "";
  tell("clients-state", missing || (clients.length ? "" : "Nobody is connected."), silent.length > 0);
  write($("connected-caption"), rest > 0 ? `${clients.length} of ${count(connected)} clients; CLIENT LIST shows the other ${count(rest)}`
    : `All ${count(clients.length)} clients`);
  fill("connected", clients.map((client) => [String(client.id), client.address, { text: client.name || NONE, kind: "k" },
    String(client.worker), client.protocol, client.library || NONE, span(client.age_seconds), span(client.idle_seconds),
    client.last_command || NONE, bytes(client.unread_bytes)]));
}

const VERDICTS = { costs: "costs latency", good: "good", unknown: "cannot be seen" };

function showFindings(answer) {
  const verdict = ({ state }) => ({ text: VERDICTS[state] || state, kind: state === "costs" ? "warn" : "" });
  const costly = answer.findings.filter(({ state }) => state === "costs");
  const fine = answer.findings.filter(({ state }) => state !== "costs");
  tell("doctor-state", costly.length ? "" : "Nothing found that costs latency.");
  write($("findings-caption"), `What of this host costs latency: ${costly.length} of ${answer.findings.length} checks`);
  fill("findings", costly.map((found) => [found.check, verdict(found),
    `${found.what} (${found.verified ? "seen to happen" : "inferred"})`, found.why, { text: found.fix || NONE, kind: "k" }]));
  $("fine").hidden = fine.length === 0;
  write($("fine-summary"), `${fine.length} checks that found nothing`);
  const place = $("fine").querySelector(".scroll");
  place.id = "fine-rows";
  fill(place.id, fine.map((found) => [found.check, verdict(found), found.what]));
  showTile("Doctor's findings", String(costly.length), costly.length ? "see Doctor" : "this host looks well");
}

/** Rows by group; made anew only when a value has changed. */
let settingsShown = "";

function showSettings({ settings }) {
  const text = JSON.stringify(settings);
  tell("settings-state", "");
  if (text === settingsShown) return;
  settingsShown = text;
  const table = $("table-of-settings").querySelector("table");
  [...table.tBodies].forEach((body) => body.remove());
  for (const group of new Set(settings.map((row) => row.group))) {
    const body = make("tbody", {}, make("tr", {}, make("th", { scope: "rowgroup", colspan: "5", class: "group" }, group)));
    for (const row of settings.filter((it) => it.group === group)) {
      const value = make("td", { class: "k v" }, row.value === "" ? "(empty)" : row.value);
      if (!row.is_default) value.classList.add("warn");
      const known = row.default === "" ? "(empty)" : row.default;
      body.append(make("tr", { "data-words": `${row.key} ${row.value} ${row.advice}`.toLowerCase(), "data-changed": row.is_default ? "" : "yes" },
        make("th", { scope: "row" }, row.key), value, make("td", { class: "k v soft" }, row.is_default ? "same" : known),
        make("td", {}, row.is_mutable ? "live" : "restart"),
        make("td", { class: "w" }, `${row.advice} `, make("span", { class: "soft" }, `Takes ${row.takes}.`))));
    }
    table.append(body);
  }
  findSettings();
}

/** Hides what was not looked for. */
function findSettings() {
  const words = $("settings-find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const isOnlyChanged = $("settings-changed").checked;
  let [found, all] = [0, 0];
  for (const body of $("table-of-settings").querySelectorAll("tbody")) {
    const rows = [...body.rows].slice(1);
    for (const row of rows) {
      const fits = words.every((word) => row.dataset.words.includes(word)) && (!isOnlyChanged || row.dataset.changed);
      row.hidden = !fits;
      found += fits ? 1 : 0;
      all += 1;
    }
    body.hidden = rows.every((row) => row.hidden);
  }
  write($("settings-count"), `${found} of ${all} settings`);
}

