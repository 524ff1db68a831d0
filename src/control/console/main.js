// The page at work: one turn every two seconds, the figures of the last answer in between.

const state = { runId: "", points: [], status: null, before: null, times: [] };

const complainAt = (id) => (text) => tell(id, text, true);
const figures = [
  occasional("settings.json", 10_000, showSettings, (text) => write($("settings-count"), text)),
  occasional("doctor.json", 60_000, showFindings, complainAt("doctor-state")),
];
const confidences = [
  occasional("clients.json", 6_000, showClients, complainAt("clients-state")),
  occasional("hotkeys.json", 6_000, showHotKeys, complainAt("hotkeys-state")),
  occasional("slowlog.json", 6_000, showSlowLog, complainAt("slowlog-state")),
];

/** What clients do is not for everybody; why, the server says. */
function withhold(why) {
  for (const id of ["clients-state", "hotkeys-state", "slowlog-state"]) tell(id, `Not shown: ${why}.`);
  for (const id of ["connected", "keys", "slow"]) fill(id, []);
}

/** All points when there are none or some are missing, else the newest. */
async function follow(status) {
  const last = state.points.at(-1)?.number;
  const [newest, isOther] = [status.latest?.number, status.run_id !== state.runId];
  if (newest === undefined || isOther || last === undefined || newest > last + 1) {
    const history = await ask("history.json");
    state.points = history.points;
    if (isOther) {
      state.before = state.status = null;
      [...figures, ...confidences].forEach((it) => it.renew());
    }
    state.runId = status.run_id;
  } else if (newest === last + 1) {
    state.points = [...state.points, status.latest].slice(-300);
  }
}

function showAll() {
  const { status, before, points } = state;
  if (!status) return;
  const seconds = before ? (status.unix_ms - before.unix_ms) / 1000 : 0;
  showIdentity(status);
  showOverview(status, points);
  showPercentiles(points);
  showBreakdown(points);
  showStages(status);
  showTraffic(points);
  showCache(status, points);
  showWorkers(status, before, seconds);
  showMemory(status);
  showCommands(status, before, seconds);
  nameScrollers();
}

/** Asks and shows; how long to wait until the next turn. */
async function turn() {
  try {
    const status = await ask("status.json");
    await follow(status);
    [state.before, state.status] = [state.status, status];
    sayLive(status);
    showAll();
    figures.forEach((it) => it.askWhenDue());
    if (status.withheld) withhold(status.withheld);
    else confidences.forEach((it) => it.askWhenDue());
    return state.before ? POLL_MS : POLL_MS / 2;
  } catch (error) {
    return onFailure(error);
  }
}

/** For ever; nobody is asked while nobody looks. */
async function run() {
  for (;;) {
    if (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
    else await sleeper.sleep(await turn());
  }
}

vault.load();
const choices = ["all commands (execution)", ...STAGES.map(([name]) => `stage ${name}`)];
$("percentiles-of").append(...choices.map((name, index) => make("option", { value: String(index) }, name)));
$("percentiles-of").addEventListener("change", showAll);
document.querySelectorAll("details").forEach((it) => it.addEventListener("toggle", showAll));
$("settings-find").addEventListener("input", findSettings);
$("settings-changed").addEventListener("change", findSettings);
$("again").addEventListener("click", () => sleeper.wake());
$("forget").addEventListener("click", () => {
  vault.save("");
  location.reload();
});
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  vault.save($("token").value);
  $("token").value = "";
  sleeper.wake();
});
window.addEventListener("resize", nameScrollers);
run();
