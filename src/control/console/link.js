// The link to the server: what is asked, how often, and what is said while it does not answer.

const POLL_MS = 2000;
const ANSWER_MS = 8000;
const BACKOFF_MS = [1000, 2000, 4000, 8000, 15000];
const TOKEN = "corering admin-token";

/** The token lives as long as this tab; some browsers keep nothing at all. */
const vault = {
  value: "",
  load() {
    try { this.value = sessionStorage.getItem(TOKEN) || ""; } catch { /* It is asked for again. */ }
  },
  save(value) {
    this.value = value;
    try {
      if (value) sessionStorage.setItem(TOKEN, value);
      else sessionStorage.removeItem(TOKEN);
    } catch { /* It lives as long as this page. */ }
  },
};

/** The server said no. */
class Refusal extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** Fields of a request hold bytes: those of UTF-8. */
const inBytes = (text) => String.fromCharCode(...new TextEncoder().encode(text));

async function ask(path) {
  const headers = vault.value ? { Authorization: `Bearer ${inBytes(vault.value)}` } : {};
  const signal = AbortSignal.timeout(ANSWER_MS);
  const answer = await fetch(path, { headers, signal, cache: "no-store", redirect: "error" });
  if (!answer.ok) throw new Refusal(answer.status, (await answer.text()).trim());
  return answer.json();
}

/** A defect of this page is none of the link: it is told to the browser's console. */
function attempt(show, ...given) {
  try {
    show(...given);
  } catch (error) {
    reportError(error);
  }
}

/** What is asked now and then, beside the status; `show` gets the answer, `complain` a sentence. */
function occasional(path, everyMs, show, complain) {
  let [due, isAsking] = [0, false];
  return {
    renew() { due = 0; },
    async askWhenDue() {
      if (isAsking || Date.now() < due) return;
      isAsking = true;
      due = Date.now() + everyMs;
      try {
        const answer = await ask(path);
        attempt(show, answer);
      } catch (error) {
        complain(error instanceof Refusal ? error.message : `${path} does not arrive`);
      }
      isAsking = false;
    },
  };
}

/** Sleeps until the time has passed, or `wake` is called. */
const sleeper = {
  wake() {},
  sleep(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.wake = () => { clearTimeout(timer); resolve(); };
    });
  },
};

const link = { answeredMs: 0, failures: 0 };

function sayLink(state, text) {
  document.body.className = state + (link.answeredMs ? "" : " empty");
  write($("link"), text);
  document.title = state === "live" ? `Corering, ${location.host}` : `${text}: Corering, ${location.host}`;
  $("again").hidden = state !== "gone";
  $("hold").hidden = state !== "live" && state !== "held";
  $("forget").hidden = !vault.value || state === "asks";
}

function sayLive(status) {
  [link.answeredMs, link.failures] = [Date.now(), 0];
  $("access").hidden = true;
  $("token-wrong").hidden = true;
  sayLink("live", status.phase === "running" ? "Live" : `Live, ${status.phase}`);
  write($("updated"), clock(link.answeredMs));
}

function sayHeld() {
  sayLink("held", `Paused at ${clock(link.answeredMs)}`);
  write($("updated"), "");
}

/** The server answers, and shows nothing to whoever asks this way. */
function sayRefused(why) {
  sayLink("gone", `Not shown: ${why}`);
  write($("updated"), "");
}

function sayGone() {
  const since = link.answeredMs ? `since ${clock(link.answeredMs)}` : "yet";
  sayLink("gone", `No answer ${since}; trying again`);
  write($("updated"), "");
}

/** Asks for the token; says so if the one that was given is wrong. */
function sayLocked() {
  const wasAsked = !$("access").hidden;
  $("token-wrong").hidden = !vault.value;
  $("access").hidden = false;
  sayLink("asks", "Waiting for the token");
  write($("updated"), "");
  if (!wasAsked) $("token").focus();
}

/** How long to wait after a turn that failed. */
function onFailure(error) {
  if (error instanceof Refusal && error.status === 401) {
    sayLocked();
    return 3600_000;
  }
  if (error instanceof Refusal && error.status === 403) sayRefused(error.message);
  else sayGone();
  link.failures += 1;
  return BACKOFF_MS[Math.min(link.failures, BACKOFF_MS.length) - 1];
}

