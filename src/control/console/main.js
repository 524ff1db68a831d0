// The page at work: one turn every two seconds, the figures of the last answer in between.

const state = { runId: "", points: [], status: null, before: null, times: [] };

/** Path, how often it is asked for, who shows it, where it is said that it is not there, the table of it. */
const PAGES = [
  ["settings.json", 10_000, showSettings, "settings-state", null],
  ["doctor.json", 60_000, showFindings, "doctor-state", "findings"],
  ["clients.json", 6_000, showClients, "clients-state", "connected"],
  ["hotkeys.json", 6_000, showHotKeys, "hotkeys-state", "keys"],
  ["slowlog.json", 6_000, showSlowLog, "slowlog-state", "slow"],
];
const pages = PAGES.map(([path, everyMs, show, id, table]) => ({
  ...occasional(path, everyMs, show, (text) => tell(id, text, true)),
  /** Not everything is for everybody; why, the server says. */
  withhold(why) {
    tell(id, `Not shown: ${why}.`);
    if (table) fill(table, []);
  },
  path,
}));

/** All points when there are none or some are missing, else the newest. */
async function follow(status) {
  const last = state.points.at(-1)?.number;
  const [newest, isOther] = [status.latest?.number, status.run_id !== state.runId];
  if (newest === undefined || isOther || last === undefined || newest > last + 1) {
    const history = await ask("history.json");
    state.points = history.points;
    if (isOther) {
      state.before = state.status = null;
      pages.forEach((it) => it.renew());
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
  showPercentiles(status, points);
  showStages(status, points);
  showBreakdown(points);
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
  } catch (error) {
    return onFailure(error);
  }
  if (isHeld()) return POLL_MS;
  sayLive(state.status);
  attempt(showAll);
  for (const it of pages) {
    const why = state.status.withheld[it.path];
    if (why) it.withhold(why);
    else it.askWhenDue();
  }
  return state.before ? POLL_MS : POLL_MS / 2;
}

/** For ever; nobody is asked while nobody looks, or wants to look at what is there. */
async function run() {
  for (;;) {
    if (document.hidden || isHeld()) await sleeper.sleep(3600_000);
    else await sleeper.sleep(await turn());
  }
}

const isHeld = () => $("hold").getAttribute("aria-pressed") === "true";

vault.load();
const choices = ["all commands (execution)", ...STAGES.map(([name]) => `stage ${name}`)];
$("percentiles-of").append(...choices.map((name, index) => make("option", { value: String(index) }, name)));
$("percentiles-of").addEventListener("change", () => {
  $("percentiles-of").dataset.chosen = "yes";
  showAll();
});
document.querySelectorAll("details").forEach((it) => it.addEventListener("toggle", showAll));
$("settings-find").addEventListener("input", findSettings);
$("settings-changed").addEventListener("change", findSettings);
document.addEventListener("visibilitychange", () => sleeper.wake());
$("again").addEventListener("click", () => sleeper.wake());
$("hold").addEventListener("click", () => {
  $("hold").setAttribute("aria-pressed", String(!isHeld()));
  if (isHeld()) sayHeld();
  sleeper.wake();
});
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
window.addEventListener("resize", showAll);
run();
